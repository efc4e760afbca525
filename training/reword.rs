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

/// What may stand before a request, and behind it, in one language.
struct Courtesy {
    lang: &'static str,
    before: &'static [&'static str],
    behind: &'static [&'static str],
}

const ENGLISH: Courtesy = Courtesy {
    lang: "en",
    before: &[
        "Hi! ",
        "Hello there, ",
        "Hey, ",
        "hey ",
        "Good evening! ",
        "Good afternoon, ",
        "Greetings. ",
        "Hi again, ",
        "hiya, ",
        "Yo, ",
        "Please ",
        "Please: ",
        "please, ",
        "Kindly do the following: ",
        "Can you do this? ",
        "Could you help with something? ",
        "Would you mind doing this for me: ",
        "Hello, I hope you can help. ",
        "Hi, hope your day is going well! ",
        "I hope this finds you well. ",
        "Hey there, I need some help. ",
        "Excuse me, ",
        "Sorry for asking again, but ",
        "Apologies if this is a silly one. ",
        "If it is not too much trouble: ",
        "Whenever you get a chance, ",
        "I was wondering if you could help me. ",
        "I'd really appreciate some help here. ",
        "Quick question. ",
        "Okay so, ",
        "So, ",
        "Right, next one: ",
        "One more thing: ",
        "Thanks for the last answer! ",
        "You have been so helpful. ",
        "Dear friend,\n\n",
        "Dear Sir or Madam,\n",
        "Hello,\n\n",
        "Hey!\n\n",
        "I am new here, so bear with me. ",
        "My boss asked me for this. ",
        "This is for a friend of mine. ",
        "It's late and I am tired, so: ",
        "Not sure you can do that, but ",
        "As we talked about before: ",
        "Let's try this: ",
        "Here goes: ",
        "Task: ",
        "My question: ",
        "User: ",
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
        before: &[
            "Hallo, ",
            "Guten Tag! ",
            "Könnten Sie mir bitte helfen? ",
            "Bitte: ",
            "Kurze Frage: ",
            "Entschuldigung, ",
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
        before: &["Bonjour, ", "Salut ! ", "Pourriez-vous m'aider ? ", "S'il vous plaît, ", "Une petite question : "],
        behind: &[" Merci !", " Merci d'avance.", " s'il te plaît", "\n\nCordialement", " Bonne journée."],
    },
    Courtesy {
        lang: "es",
        before: &["Hola, ", "¡Buenos días! ", "¿Me puedes ayudar? ", "Por favor, ", "Perdona, "],
        behind: &[" ¡Gracias!", " Muchas gracias de antemano.", " por favor", "\n\nUn saludo", " Te lo agradezco."],
    },
    Courtesy {
        lang: "it",
        before: &["Ciao, ", "Buongiorno! ", "Mi puoi aiutare? ", "Per favore, ", "Scusa, "],
        behind: &[" Grazie!", " Grazie mille.", " per favore", "\n\nCordiali saluti"],
    },
    Courtesy {
        lang: "pt",
        before: &["Olá, ", "Bom dia! ", "Você pode me ajudar? ", "Por favor, ", "Desculpe, "],
        behind: &[" Obrigado!", " Muito obrigada.", " por favor", "\n\nAtenciosamente"],
    },
    Courtesy {
        lang: "nl",
        before: &["Hoi, ", "Goedemorgen! ", "Kun je me helpen? ", "Alsjeblieft: "],
        behind: &[" Bedankt!", " Alvast bedankt.", "\n\nMet vriendelijke groet"],
    },
    Courtesy {
        lang: "pl",
        before: &["Cześć, ", "Dzień dobry! ", "Czy możesz mi pomóc? ", "Proszę, "],
        behind: &[" Dzięki!", " Z góry dziękuję.", "\n\nPozdrawiam"],
    },
    Courtesy {
        lang: "ru",
        before: &["Привет, ", "Здравствуйте! ", "Помогите, пожалуйста. ", "Пожалуйста, "],
        behind: &[" Спасибо!", " Заранее благодарю.", "\n\nС уважением"],
    },
    Courtesy {
        lang: "zh",
        before: &["你好，", "您好！", "麻烦你帮个忙，", "请"],
        behind: &["谢谢！", "非常感谢。", "麻烦了"],
    },
    Courtesy {
        lang: "ja",
        before: &["こんにちは。", "すみません、", "お願いがあります。"],
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
    let courtesy = OTHERS.iter().find(|courtesy| courtesy.lang == lang).unwrap_or(&ENGLISH);
    let prompt = if random.random::<f64>() < MISTYPED { typos(prompt, random) } else { prompt.to_string() };
    let phrase = |all: &[&'static str], random: &mut ChaCha8Rng| all.choose(random).copied().unwrap_or_default();
    match random.random_range(0..10) {
        0 => phrase(&FRAMES, random).replacen("{}", &prompt, 1),
        1..=5 => format!("{}{prompt}", phrase(courtesy.before, random)),
        6 => format!("{}{}{prompt}", phrase(courtesy.before, random), phrase(courtesy.before, random)),
        7..=8 => format!("{prompt}{}", phrase(courtesy.behind, random)),
        _ => format!("{}{prompt}{}", phrase(courtesy.before, random), phrase(courtesy.behind, random)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::measure::stability::PHRASES;

    #[test]
    fn no_phrase_is_one_that_stability_is_tested_with() {
        let courtesies = std::iter::once(&ENGLISH).chain(&OTHERS);
        let mine = courtesies.flat_map(|courtesy| courtesy.before.iter().chain(courtesy.behind)).chain(&FRAMES);
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
