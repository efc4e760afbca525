//! Greetings, thanks and asking nicely, at either end of a text: left out of what is embedded, for they say nothing of
//! the work asked for. An embedding is a mean over tokens: before a short request, "Good morning. I hope you are well."
//! is half of it.
//!
//! What counts is decided word by word: a sentence made of the words below alone, of a courteous one at least, is
//! courtesy. One other word, a digit, a quotation mark or code ends it. Words that can name work ("make this better",
//! "answer it", "in short") are therefore not among them.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Words of courtesy, an entry a language.
const COURTEOUS: [&str; 9] = [
    "hi hello hey hiya howdy yo sup greetings dear hola morning afternoon evening g'day welcome please pls plz kindly \
     thanks thank thx ty tysm cheers ta grateful thankful gratitude appreciate appreciated appreciation sorry apologies \
     apology apologise apologize excuse pardon forgive forgiveness bother bothering trouble troubling disturb disturbing \
     interrupt interrupting interruption help helping helped helpful assist assistance hand favour favor hope hoping \
     wish wishes regards rgds sincerely faithfully respectfully forward quick quickie bye goodbye",
    "hallo hi moin servus guten danke dank dankeschön bitte bitten entschuldigung entschuldigen entschuldige sorry \
     grüße grüßen gruß grüß hilfe helfen hilf hilfst helft liebe lieber geehrte geehrter hoffe verzeihung kurze",
    "bonjour salut bonsoir coucou merci svp stp plaît plait désolé désolée pardon excusez excuse cordialement \
     journée aider aide aidez espère chère cher remercie remercier salutations",
    "hola buenos buenas gracias favor porfa perdón perdona perdone disculpa disculpe saludos saludo ayuda ayudar \
     ayudarme ayúdame espero estimado estimada estimados querido agradezco agradecería",
    "ciao buongiorno buonasera salve grazie favore scusa scusi scusate cordiali saluti aiuto aiutare aiutarmi aiutami \
     spero gentile gentilissimi caro ringrazio prego",
    "olá oi bom boa obrigado obrigada favor desculpe desculpa atenciosamente ajuda ajudar espero caro prezado prezados \
     agradeço",
    "hoi hallo goedemorgen goedemiddag goedenavond bedankt dank dankjewel alsjeblieft alstublieft sorry groet groeten \
     hulp helpen hoop beste vriendelijke",
    "cześć dzień dobry witam witaj hej dzięki dziękuję proszę przepraszam pozdrawiam pomóc pomoc pomocy nadzieję szanowni",
    "привет здравствуйте здравствуй добрый доброе спасибо благодарю пожалуйста плиз извините простите уважением \
     помогите помоги помочь помощь помощи надеюсь",
];

/// Words that may stand among them.
const PLAIN: [&str; 9] = [
    "a an the i me my we us our you your u ur it its this that these those there here here's to of for from in on with \
     and or but if so as at by be being been is are am was were isn't i'm i'd i've i'll it's it'd you're you've that's \
     that'd let's lets use do did does doing done can can't could would will may might shall should must have haven't \
     has had having get getting got give giving take taking look looking need needing want ask asking just also again \
     very much really far all any some something anything someone everything another one thing things few little bit \
     moment time times busy today tonight yesterday tomorrow now day week weekend good nice great fine well best lovely \
     wonderful pleasant alright possible able mind minding know feel free see try trying spare out up over down back \
     too not don't no ok okay oh ah um uh hmm well sure everyone everybody anyone anybody team friend friends buddy \
     mate pal bro dude man sir madam ma'am folks guys assistant ai bot chatbot robot whenever when while before after \
     soon earlier previous last first next following below already always ever never yet such lot lots ton tons million \
     advance question questions request minute minutes second seconds sec chance hear hearing from kind warm truly yours \
     support amazing awesome brilliant happy glad pleased pleasure wonder wondering finds trust gonna wanna lol haha \
     asap rush hurry urgent late long fast stuck lost bit so",
    "ich du sie mir mich dir ihnen ihr wir uns es das dies diese dieser dieses die der den dem ein eine einen einer \
     und oder aber wenn für mit zu zum im in an auf von bei ist sind bin war habe haben hast hat kann kannst können \
     könnten könntest könnte würde würden wäre möchte brauche mal kurz noch sehr so viel vielen schön schöne schönen \
     gut guter morgen tag abend nacht damen herren herr frau freundlichen freundliche viele besten voraus geht wie \
     frage fragen zeit moment nett gerne störung stören dass hier tun",
    "je tu vous moi me nous il elle ce ceci cela ça c'est est suis êtes es le la les un une des de du à au aux en pour \
     par avec et ou mais si que qui allez bien va ai j'ai j'espère avez pouvez pourriez pourrais peux votre ton besoin \
     petite petit question rapide moment temps beaucoup très d'avance avance s'il te déranger dérange encore fois bonne \
     bon soirée matin monsieur madame tout tous faire",
    "yo tú usted me te le nos es esto esta este eso un una el la los las de del a al en por para con y o pero si que \
     está estás estar esté bien muy mucho muchas muchos días tardes noches tal puedes puede podrías podría necesito \
     tengo tienes tiene pregunta rápida momento tiempo antemano molestia molestar buen día todo amigo señor señora \
     señores hacer",
    "io tu lei mi ti vi le ci è sono sei questo questa un una il lo la i di del a al in per con e o ma se che stia stai \
     bene molto tante mille puoi può potresti potrebbe ho hai avrei bisogno mano domanda veloce momento tempo disturbo \
     disturbare buona giornata serata tutto fare già anticipo",
    "eu tu você me te lhe nos é está esteja isto isso este esta um uma o a os as de do da em no na por para com e ou mas \
     se que bem muito muita dia tarde noite tudo pode podes poderia preciso tenho tens sua pergunta rápida momento \
     tempo incômodo incomodar fazer",
    "ik je jij u me mij we ons het dit dat deze die de een en of maar als voor met te van in op aan is zijn ben heb hebt \
     heeft kan kun kunt kunnen wil zou graag even korte vraag moment tijd goed goede heel veel alvast dag avond iets \
     doen stoor weer",
    "ja ty mi mnie pan pani państwo ci to ten ta te i lub ale jeśli że za z w na do o jest są się mam wszystko dobrze \
     bardzo czy możesz może możecie mógłbyś szybkie pytanie czas chwilę góry potrzebuję prośbę",
    "я ты вы мне меня нам вас вам вашу это эту этот этим и или но если за с в на у о есть всё все хорошо очень большое \
     заранее можете можешь могли бы нужна нужно быстрый вопрос время минуту день утро вечер беспокойство",
];

/// Whole sentences of courtesy: those of common words, and those of languages that do not part words.
const SAYINGS: [&str; 42] = [
    "how are you",
    "how are you doing",
    "how are you today",
    "how are you doing today",
    "how is it going",
    "how's it going",
    "how do you do",
    "i trust you are well",
    "you are the best",
    "you're the best",
    "take your time",
    "no rush",
    "wie geht es dir",
    "wie geht es ihnen",
    "comment allez-vous",
    "comment ça va",
    "cómo estás",
    "qué tal",
    "come stai",
    "como vai",
    "你好",
    "您好",
    "早上好",
    "下午好",
    "晚上好",
    "谢谢",
    "谢谢你",
    "谢谢您",
    "非常感谢",
    "麻烦你了",
    "麻烦您了",
    "不好意思",
    "打扰了",
    "请问",
    "请帮帮我",
    "こんにちは",
    "こんばんは",
    "おはようございます",
    "すみません",
    "ありがとうございます",
    "お願いします",
    "よろしくお願いします",
];

/// Characters at either end that are looked at.
const REACH: usize = 300;

/// A name under a letter has at most so many words.
const NAME_WORDS: usize = 3;

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let all = |entries: &[&'static str]| entries.iter().flat_map(|entry| entry.split_whitespace()).collect();
    Words { courteous: all(&COURTEOUS), plain: all(&PLAIN), sayings: HashSet::from(SAYINGS) }
});

struct Words {
    courteous: HashSet<&'static str>,
    plain: HashSet<&'static str>,
    sayings: HashSet<&'static str>,
}

/// What a piece of text is made of.
#[derive(Clone, Copy, PartialEq)]
enum Made {
    /// Of other words too.
    Otherwise,
    Plainly,
    Courteously,
}

/// The text without courtesy at its ends; the whole of it where nothing else would be left.
pub fn trim(text: &str) -> &str {
    let whole = text.trim();
    let rest = trim_end(trim_start(whole));
    if rest.chars().any(char::is_alphanumeric) { rest } else { whole }
}

/// Piece by piece: a comma may part courtesy from the request.
fn trim_start(text: &str) -> &str {
    let reach = text.char_indices().nth(REACH).map_or(text.len(), |(at, _)| at);
    let (mut at, mut courtesy, mut courteous) = (0, 0, false);
    while let Some((length, mark)) = text[at..reach].char_indices().find(|(_, one)| is_pause(*one) || is_end(*one)) {
        let made = made(&text[at..at + length]);
        if made == Made::Otherwise {
            break;
        }
        at += length + mark.len_utf8();
        courteous |= made == Made::Courteously;
        if courteous {
            courtesy = at;
        } else if is_end(mark) && length > 0 {
            break;
        }
        courteous &= !is_end(mark);
    }
    text[courtesy..].trim_start()
}

/// Sentence by sentence, from the last; a name may stand below.
fn trim_end(text: &str) -> &str {
    let unsigned = without_name(text).map(sentences_off).filter(|(_, trimmed)| *trimmed);
    unsigned.unwrap_or_else(|| sentences_off(text)).0
}

/// The text without courteous sentences at its end, and whether there were any.
fn sentences_off(text: &str) -> (&str, bool) {
    let reach = text.char_indices().rev().nth(REACH).map_or(0, |(at, _)| at);
    let mut end = text.len();
    loop {
        let closed = text[reach..end].trim_end_matches(|one: char| is_end(one) || one.is_whitespace());
        let Some((at, mark)) = closed.char_indices().rev().find(|(_, one)| is_end(*one)) else { break };
        let start = reach + at + mark.len_utf8();
        // Behind a colon stands what is worked on, however courteous.
        let worked_on = text[..start].trim_end().ends_with(':') || text[start..end].contains(':');
        if worked_on {
            return (text, false);
        }
        if made(&text[start..end]) != Made::Courteously {
            break;
        }
        end = start;
    }
    (text[..end].trim_end(), end < text.len())
}

/// The text without its last line, where that could be a name: capitals, below a closing with its comma.
fn without_name(text: &str) -> Option<&str> {
    let (rest, name) = text.rsplit_once('\n')?;
    let of_names = |one: char| one.is_alphabetic() || matches!(one, '.' | '-' | '\'');
    let is_name = |word: &str| word.starts_with(char::is_uppercase) && word.chars().all(of_names);
    let closes = rest.trim_end().ends_with(',');
    (closes && name.split_whitespace().count() <= NAME_WORDS && name.split_whitespace().all(is_name))
        .then(|| rest.trim_end())
}

fn made(piece: &str) -> Made {
    let of_words = |one: char| one.is_alphanumeric() || matches!(one, '\'' | '’' | '-');
    if !piece.chars().all(|one| of_words(one) || one.is_whitespace() || is_pause(one) || is_end(one)) {
        return Made::Otherwise;
    }
    let words: Vec<String> = piece
        .split(|one| !of_words(one))
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .map(|word| word.to_lowercase().replace('’', "'"))
        .collect();
    let courteous = |word: &String| WORDS.courteous.contains(word.as_str());
    if WORDS.sayings.contains(words.join(" ").as_str()) {
        Made::Courteously
    } else if !words.iter().all(|word| courteous(word) || WORDS.plain.contains(word.as_str())) {
        Made::Otherwise
    } else if words.iter().any(courteous) {
        Made::Courteously
    } else {
        Made::Plainly
    }
}

/// Ends a sentence.
fn is_end(one: char) -> bool {
    matches!(one, '.' | '!' | '?' | '\n' | '…' | '。' | '！' | '？')
}

/// Stands inside one.
fn is_pause(one: char) -> bool {
    matches!(one, ',' | ':' | ';' | '–' | '—' | '，' | '、' | '：')
}

#[cfg(test)]
mod tests {
    use super::trim;

    #[test]
    fn what_is_only_polite_is_left_out() {
        for (text, rest) in [
            ("Hello there! Write a poem about rain.", "Write a poem about rain."),
            ("Good evening, how are you? I could use some help. Sort 3, 1, 2", "Sort 3, 1, 2"),
            ("please, pull the dates out of this", "pull the dates out of this"),
            ("Translate the menu. Thanks a lot, have a nice day!", "Translate the menu."),
            ("Translate the menu\n\nKind regards", "Translate the menu"),
            ("Translate the menu\n\nBest regards,\nJ. Okafor", "Translate the menu"),
            ("Hi, is this right? 3 + 4 = 8", "is this right? 3 + 4 = 8"),
            ("Sorry to trouble you, but if you can: sort these", "sort these"),
            ("Guten Tag! Können Sie mir bitte helfen? Was ist ein Pfandbrief?", "Was ist ein Pfandbrief?"),
            ("你好，请问，什么是熵？", "什么是熵？"),
            ("Hi — what is an alkane", "what is an alkane"),
        ] {
            assert_eq!(trim(text), rest);
        }
    }

    #[test]
    fn what_says_more_stays() {
        for text in [
            "Hello",
            "Hello! How are you today?",
            "Thank you so much.",
            "Please write a poem.",
            "Can you please make this better? It is a bit off.",
            "Please give it to me in short: rain fell.",
            "Reply to this, please: the boat is late.",
            "The boat is late.\nTom",
            "My aunt turns 90. Can you help me?\nWrite her a poem",
            "Here it is. Thanks!\nTranslate It",
            "Rewrite this:\nhey can you help me asap thanks",
            "Summarize:\nHello. Thank you for having me here today.",
            "Q: What is the time?\nA: Noon.\nQ: Here you are.\nA: Thanks.",
            "Dear Anna, the boat is late.",
            "Is it good? Was it there? Explain the joke.",
            "Question: What do you have?",
            "Translate to German: thank you very much",
            "\"Thank you.\" Who says that in the play?",
            "Hi 5, what is that?",
            "hello_world(); prints what?",
            "",
            " \n ",
        ] {
            assert_eq!(trim(text), text.trim());
        }
    }

    #[test]
    fn of_a_long_text_the_ends_alone_are_looked_at() {
        let long = "hi, ".repeat(100_000);
        assert!((1..2 * super::REACH).contains(&(long.len() - trim(&long).len())));
    }
}
