//! The same request in other words around it: greetings, courtesy, hesitation, quotation marks, slips of the keyboard.
//! Learned from beside the prompts as they are, so that a decision hangs on the request alone. None of these phrases
//! stands among those that `measure/stability.rs` tests with.

use super::measure::stability::typos;
use crate::classifier::Exemplar;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Stream of the random numbers: apart from those of folds and weights, which share the seed.
const STREAM: u64 = 0x5e0d;

/// Share of the reworded prompts that are mistyped too.
const MISTYPED: f64 = 0.25;

/// What may stand around a request in one language. Before it stand a greeting, small talk and the asking, each or not.
struct Courtesy {
    lang: &'static str,
    greetings: &'static [&'static str],
    talk: &'static [&'static str],
    asking: &'static [&'static str],
    behind: &'static [&'static str],
}

/// Shares of the reworded prompts whose courtesy has a greeting, small talk, and the asking.
const GREETED: f64 = 0.45;
const TALKED: f64 = 0.35;
const ASKED: f64 = 0.6;

/// Share of what stands before a request that is a line of its own.
const OWN_LINE: f64 = 0.15;

/// Share of the prompts in other languages with courtesy in English around them.
const MIXED: f64 = 0.4;

const ENGLISH: Courtesy = Courtesy {
    lang: "en",
    greetings: &[
        "Hi! ",
        "Hi :) ",
        "Hello there, ",
        "Hello, ",
        "Hello again! ",
        "Hey, ",
        "hey ",
        "hey there! ",
        "Good evening! ",
        "Good afternoon, ",
        "good day. ",
        "Morning! ",
        "Greetings. ",
        "Hi again, ",
        "hiya, ",
        "Yo, ",
        "Howdy. ",
        "Dear friend, ",
        "Dear Sir or Madam, ",
        "To whom it may concern, ",
        "Hello my friend. ",
        "Hi AI, ",
        "Hey bot, ",
        "Hi everyone, ",
        "Dear team, ",
        "Okay, ",
        "Excuse me, ",
        "Welcome back! ",
    ],
    talk: &[
        "Hope your day is going well! ",
        "I hope this finds you well. ",
        "I hope all is fine with you. ",
        "How are you doing today? ",
        "How is it going? ",
        "Nice to talk to you again. ",
        "Long time no see! ",
        "I trust you had a good weekend. ",
        "Thanks for the last answer! ",
        "That was great, thank you. ",
        "You have been so helpful. ",
        "Thank you for being there. ",
        "Last time you were a great help to me. ",
        "I am new here, so bear with me. ",
        "I have never done this before. ",
        "I have been told that you are good at this. ",
        "A colleague said I should try you. ",
        "My boss asked me for this. ",
        "This is for a friend of mine. ",
        "It's late and I am tired. ",
        "I know that you are busy. ",
        "Sorry for asking again. ",
        "Apologies if this is a silly one. ",
        "I hate to trouble you with this. ",
        "Forgive me for the interruption. ",
        "I am a bit stuck today. ",
        "As we talked about before. ",
        "I hope that I am in the right place. ",
        "I promise that this is the last one. ",
        "Let me see what you can do. ",
    ],
    asking: &[
        "Please ",
        "Please: ",
        "please, ",
        "pls ",
        "Kindly do the following: ",
        "Can you do this? ",
        "Can you assist me? ",
        "Can I ask you something? ",
        "May I ask you for a favour? ",
        "Could you help with something? ",
        "Could you have a look at the following? ",
        "Would you mind doing this for me: ",
        "Would you be so kind as to do this: ",
        "Will you please answer this one? ",
        "I hope you can help. ",
        "I need some help. ",
        "I need you to do something for me. ",
        "I could use some assistance. ",
        "I'd like some support with this, please. ",
        "I'd really appreciate some help here. ",
        "I was wondering if you could help me. ",
        "It would be great if you could do this. ",
        "If it is not too much trouble: ",
        "If you don't mind, ",
        "When you have time, please deal with this: ",
        "Whenever you get a chance, ",
        "Please be so good as to handle this. ",
        "Please have a go at this: ",
        "Help me with the following, will you? ",
        "Do me a favour. ",
        "Quick question. ",
        "Just a small thing: ",
        "A short one for you: ",
        "Something quick, ",
        "Okay so, ",
        "So, ",
        "Right, next one: ",
        "One more thing: ",
        "Not sure you can do that, but ",
        "Let's try this: ",
        "Here goes: ",
        "Task: ",
        "My question: ",
        "User: ",
        "Over to you with this: ",
        "I have got something for you. ",
        "Here is something that I need: ",
    ],
    behind: &[
        " Thx!",
        " thanks",
        " thank you so much",
        " Thanks a lot!",
        " Thanks a million.",
        " Ta!",
        " please",
        ", please.",
        " please?",
        " pls",
        " Much appreciated.",
        " I'd be very thankful.",
        " It would mean a lot.",
        " You're the best.",
        " No rush.",
        " ASAP if you can.",
        " I am in a bit of a hurry.",
        " Take your time.",
        " Let me know if anything is unclear.",
        " Tell me if you need more from me.",
        " Hope that makes sense.",
        " Sorry for the trouble.",
        " Sorry for any mistakes, English is not my first language.",
        "\n\nThank you!",
        "\n\nThanks,\nMira",
        "\n\nBest,\nJ.",
        "\n\nYours sincerely,\nA. Okafor",
        "\n\nWarm wishes",
        "\n\nSent from my phone",
        " Have a good one!",
        " Bye for now.",
        " :)",
        " Over to you.",
        "\n\nLooking forward to hearing from you.",
    ],
};

const OTHERS: [Courtesy; 10] = [
    Courtesy {
        lang: "de",
        greetings: &["Hallo, ", "Guten Tag! ", "Guten Morgen, ", "Hi! ", "Sehr geehrte Damen und Herren, ", "Moin, "],
        talk: &[
            "Ich hoffe, es geht Ihnen gut. ",
            "Danke für die letzte Antwort! ",
            "Entschuldigung für die Störung. ",
            "Ich bin neu hier. ",
            "Wie geht es dir? ",
        ],
        asking: &[
            "Könnten Sie mir bitte helfen? ",
            "Bitte: ",
            "Bitte ",
            "Kurze Frage: ",
            "Ich brauche deine Hilfe. ",
            "Kannst du das für mich machen? ",
            "Wenn Sie Zeit haben, sehen Sie sich das bitte an. ",
            "Eine Kleinigkeit noch: ",
        ],
        behind: &[
            " Danke!",
            " Vielen Dank im Voraus.",
            " Das wäre nett.",
            "\n\nMit freundlichen Grüßen",
            " Danke dir.",
        ],
    },
    Courtesy {
        lang: "fr",
        greetings: &["Bonjour, ", "Salut ! ", "Bonsoir, ", "Coucou, "],
        talk: &[
            "J'espère que vous allez bien. ",
            "Merci pour la dernière réponse ! ",
            "Désolé de vous déranger. ",
            "Je suis nouveau ici. ",
        ],
        asking: &[
            "Pourriez-vous m'aider ? ",
            "S'il vous plaît, ",
            "Une petite question : ",
            "J'ai besoin d'aide. ",
            "Peux-tu faire ceci pour moi ? ",
            "Si vous avez un moment, regardez ceci. ",
        ],
        behind: &[" Merci !", " Merci d'avance.", " s'il te plaît", "\n\nCordialement", " Bonne journée."],
    },
    Courtesy {
        lang: "es",
        greetings: &["Hola, ", "¡Buenos días! ", "Buenas tardes, ", "Estimados, "],
        talk: &[
            "Espero que estés bien. ",
            "¡Gracias por la última respuesta! ",
            "Perdona la molestia. ",
            "Soy nuevo aquí. ",
        ],
        asking: &[
            "¿Me puedes ayudar? ",
            "Por favor, ",
            "Una pregunta rápida: ",
            "Necesito ayuda. ",
            "¿Podrías hacerme esto? ",
            "Si tienes un momento, mira esto. ",
        ],
        behind: &[" ¡Gracias!", " Muchas gracias de antemano.", " por favor", "\n\nUn saludo", " Te lo agradezco."],
    },
    Courtesy {
        lang: "it",
        greetings: &["Ciao, ", "Buongiorno! ", "Buonasera, ", "Salve, "],
        talk: &["Spero che tu stia bene. ", "Grazie per l'ultima risposta! ", "Scusa il disturbo. "],
        asking: &[
            "Mi puoi aiutare? ",
            "Per favore, ",
            "Una domanda veloce: ",
            "Ho bisogno di aiuto. ",
            "Potresti fare questo per me? ",
        ],
        behind: &[" Grazie!", " Grazie mille.", " per favore", "\n\nCordiali saluti"],
    },
    Courtesy {
        lang: "pt",
        greetings: &["Olá, ", "Bom dia! ", "Boa tarde, ", "Oi! "],
        talk: &["Espero que esteja tudo bem. ", "Obrigado pela última resposta! ", "Desculpe o incômodo. "],
        asking: &[
            "Você pode me ajudar? ",
            "Por favor, ",
            "Uma pergunta rápida: ",
            "Preciso de ajuda. ",
            "Podes fazer isto por mim? ",
        ],
        behind: &[" Obrigado!", " Muito obrigada.", " por favor", "\n\nAtenciosamente"],
    },
    Courtesy {
        lang: "nl",
        greetings: &["Hoi, ", "Goedemorgen! ", "Goedendag, ", "Hallo, "],
        talk: &["Ik hoop dat alles goed gaat. ", "Bedankt voor het vorige antwoord! ", "Sorry dat ik stoor. "],
        asking: &["Kun je me helpen? ", "Alsjeblieft: ", "Een korte vraag: ", "Ik heb hulp nodig. "],
        behind: &[" Bedankt!", " Alvast bedankt.", "\n\nMet vriendelijke groet"],
    },
    Courtesy {
        lang: "pl",
        greetings: &["Cześć, ", "Dzień dobry! ", "Witam, "],
        talk: &[
            "Mam nadzieję, że wszystko dobrze. ",
            "Dzięki za ostatnią odpowiedź! ",
            "Przepraszam, że przeszkadzam. ",
        ],
        asking: &["Czy możesz mi pomóc? ", "Proszę, ", "Szybkie pytanie: ", "Potrzebuję pomocy. "],
        behind: &[" Dzięki!", " Z góry dziękuję.", "\n\nPozdrawiam"],
    },
    Courtesy {
        lang: "ru",
        greetings: &["Привет, ", "Здравствуйте! ", "Добрый вечер, "],
        talk: &["Надеюсь, у вас всё хорошо. ", "Спасибо за прошлый ответ! ", "Извините за беспокойство. "],
        asking: &["Помогите, пожалуйста. ", "Пожалуйста, ", "Быстрый вопрос: ", "Мне нужна помощь. "],
        behind: &[" Спасибо!", " Заранее благодарю.", "\n\nС уважением"],
    },
    Courtesy {
        lang: "zh",
        greetings: &["你好，", "您好！", "早上好，"],
        talk: &["希望你一切都好。", "谢谢你上次的回答！", "不好意思打扰了。"],
        asking: &["麻烦你帮个忙，", "请", "问个小问题：", "我需要帮助。"],
        behind: &["谢谢！", "非常感谢。", "麻烦了"],
    },
    Courtesy {
        lang: "ja",
        greetings: &["こんにちは。", "はじめまして。", "お疲れさまです。"],
        talk: &["お元気ですか。", "先ほどはありがとうございました。", "お忙しいところ失礼します。"],
        asking: &["すみません、", "お願いがあります。", "ちょっと質問です。", "手伝ってください。"],
        behind: &["よろしくお願いします。", "ありがとうございます。", "お願いします"],
    },
];

/// Around the whole: `{}` is the prompt.
const FRAMES: [&str; 10] = [
    "'{}'",
    "«{}»",
    "[{}]",
    "Q: {}",
    "Here is my request: {}",
    "{}\n\nThat's it.",
    "I want to ask you the following:\n{}",
    "** {} **",
    "<request>\n{}\n</request>",
    "Message:\n\n{}\n\nEnd of message.",
];

/// A share of the prompts, each reworded once: position of the exemplar, and the text.
pub fn reworded(exemplars: &[Exemplar], share: f64, seed: u64) -> Vec<(usize, String)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(STREAM);
    let mut all = Vec::new();
    for (at, exemplar) in exemplars.iter().enumerate() {
        if random.random::<f64>() < share {
            all.push((at, reword(&exemplar.prompt, &exemplar.lang, &mut random)));
        }
    }
    all
}

fn reword(prompt: &str, lang: &str, random: &mut ChaCha8Rng) -> String {
    let own = OTHERS.iter().find(|courtesy| courtesy.lang == lang);
    let courtesy = own.filter(|_| random.random::<f64>() >= MIXED).unwrap_or(&ENGLISH);
    let prompt = if random.random::<f64>() < MISTYPED { typos(prompt, random) } else { prompt.to_string() };
    match random.random_range(0..10) {
        0 => pick(&FRAMES, random).replacen("{}", &prompt, 1),
        1..=6 => format!("{}{prompt}", before(courtesy, random)),
        7..=8 => format!("{prompt}{}", pick(courtesy.behind, random)),
        _ => format!("{}{prompt}{}", before(courtesy, random), pick(courtesy.behind, random)),
    }
}

/// A greeting, small talk and the asking, or some of them; at least one.
fn before(courtesy: &Courtesy, random: &mut ChaCha8Rng) -> String {
    let mut text = String::new();
    for (phrases, share) in [(courtesy.greetings, GREETED), (courtesy.talk, TALKED), (courtesy.asking, ASKED)] {
        if random.random::<f64>() < share {
            text.push_str(pick(phrases, random));
        }
    }
    if text.is_empty() {
        text.push_str(pick(courtesy.greetings, random));
    }
    if random.random::<f64>() < OWN_LINE { format!("{}\n\n", text.trim_end()) } else { text }
}

fn pick(all: &[&'static str], random: &mut ChaCha8Rng) -> &'static str {
    all.choose(random).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::measure::stability::PHRASES;

    #[test]
    fn no_phrase_is_one_that_stability_is_tested_with() {
        let courtesies = std::iter::once(&ENGLISH).chain(&OTHERS);
        let mine = courtesies
            .flat_map(|courtesy| [courtesy.greetings, courtesy.talk, courtesy.asking, courtesy.behind].concat())
            .chain(FRAMES);
        let tested: Vec<&str> = PHRASES.iter().flat_map(|phrases| phrases.iter()).map(|phrase| phrase.trim()).collect();
        for phrase in mine {
            assert!(!tested.contains(&phrase.trim()), "`{phrase}` is tested with");
        }
    }

    #[test]
    fn the_same_seed_rewords_alike_and_the_request_stays() {
        let exemplar = |prompt: &str| Exemplar { prompt: prompt.into(), ..Exemplar::default() };
        let exemplars: Vec<Exemplar> = (0..200).map(|at| exemplar(&format!("{at} 12345"))).collect();
        let one = reworded(&exemplars, 0.5, 1);
        assert!(one == reworded(&exemplars, 0.5, 1) && one != reworded(&exemplars, 0.5, 2));
        assert!((60..140).contains(&one.len()), "{} of 200", one.len());
        for (at, text) in &one {
            assert!(text.contains(&exemplars[*at].prompt) && *text != exemplars[*at].prompt, "{text}");
        }
    }
}
