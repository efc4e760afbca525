//! The configuration: defaults resolve, mistakes name file, key and what was expected, secrets stay secret.

use crate::harness::{config, default_config};
use waypost::config::{Config, layered};

fn problem(text: &str) -> String {
    let resolved = layered("waypost.toml", text).and_then(|raw| Config::resolve("waypost.toml", raw));
    resolved.err().unwrap_or_else(|| panic!("accepted: {text}")).to_string()
}

#[test]
fn the_defaults_hold_ten_classes_and_a_local_deployment() {
    let config = default_config();
    assert_eq!(config.classes.len(), 10);
    let advanced = config.classes.iter().find(|class| class.name == "advanced").unwrap();
    assert_eq!(advanced.covers.len(), 9);
    assert!(
        config.deployments.iter().any(|deployment| deployment.provider == "local" && deployment.classes.len() == 10)
    );
}

#[test]
fn mistakes_name_the_file_the_key_and_what_was_expected() {
    for (text, expected) in [
        ("[[class]]\nname = \"x\"\n[[class]]\nname = \"x\"", vec!["class `x`", "twice"]),
        ("[server]\nlisten = \"x\"\nprot = 1", vec!["waypost.toml", "line 3", "prot", "listen"]),
        ("[server\n", vec!["waypost.toml", "line 1"]),
        ("[policy]\nquality_floor = 2.0", vec!["policy.quality_floor", "at most 1"]),
        ("[policy]\nvalue_of_second = -1.0", vec!["policy.value_of_second", "from 0"]),
        ("[policies.mine]\nmax_attempts = 0", vec!["policies.mine.max_attempts", "at least 1"]),
        ("[embedder]\nthreads = 0", vec!["embedder.threads", "at least 1"]),
        ("[embedder]\nprecision = \"fp8\"", vec!["embedder.precision", "int8", "fp8"]),
        ("[routing]\ndefault_class = \"none\"", vec!["routing.default_class", "none", "general"]),
        ("[[class]]\nname = \"code\"\ncovers = [\"cod\"]", vec!["class `code`", "cod", "basic"]),
        ("[[class]]\nname = \"auto\"\noutput_tokens = 1", vec!["class `auto`"]),
        ("[[provider]]\nname = \"p\"\nkind = \"soap\"", vec!["provider `p`.kind", "openai"]),
        (
            "[[provider]]\nname = \"p\"\nkind = \"openai\"\nbase_url = \"host\"",
            vec!["provider `p`.base_url", "https://"],
        ),
        (
            "[[provider]]\nname = \"p\"\nkind = \"openai\"\nbase_url = \"http://h\"\nkey = \"env:WAYPOST_TEST_UNSET\"",
            vec!["provider `p`.key", "WAYPOST_TEST_UNSET", "optional"],
        ),
        (
            "[[deployment]]\nname = \"d\"\nprovider = \"nobody\"\nmodel = \"m\"\nclasses = [\"*\"]\ninput = 1\noutput = 1\ncontext_tokens = 1\nmax_output_tokens = 1",
            vec!["deployment `d`", "nobody"],
        ),
        ("[[deployment]]\nname = \"d\"\nprovider = \"local\"", vec!["deployment `d`.", "is missing"]),
        (
            "[[deployment]]\nname = \"d\"\nprovider = \"local\"\nmodel = \"m\"\nclasses = [\"*\"]\ninput = 1\noutput = 1\ncontext_tokens = 1\nmax_output_tokens = 1\naliases = [\"code\"]",
            vec!["deployment `d`", "`code` is taken"],
        ),
    ] {
        let said = problem(text);
        for word in expected {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
    }
}

#[test]
fn a_pasted_key_is_refused_and_never_repeated() {
    let said =
        problem("[[provider]]\nname = \"p\"\nkind = \"openai\"\nbase_url = \"http://h\"\nkey = \"sk-secret-123\"");
    assert!(said.contains("env:NAME") && !said.contains("sk-secret-123"), "{said}");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "sk-from-file\n").unwrap();
    let config = config(&format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai\"\nbase_url = \"http://h/v1/\"\nkey = \"file:{}\"",
        file.path().display()
    ));
    let provider = config.providers.iter().find(|provider| provider.name == "p").unwrap();
    assert!(!format!("{provider:?}").contains("sk-from-file"));
    assert!(!config.show().contains("sk-from-file"));
    let waypost::config::ProviderKind::Http(http) = &provider.kind else { panic!("{provider:?}") };
    assert_eq!((http.base_url.as_str(), http.key.as_ref().unwrap().reveal()), ("http://h/v1", "sk-from-file"));
}

#[test]
fn a_file_is_laid_over_the_defaults_by_name() {
    let config = config(
        "[policy]\nquality_floor = 0.7\n[[class]]\nname = \"code\"\noutput_tokens = 9\n[[provider]]\nname = \"ollama\"\nenabled = false",
    );
    assert_eq!(config.policy.quality_floor, 0.7);
    assert_eq!(config.policies["fast"].quality_floor, 0.7, "a named policy takes what it does not name from [policy]");
    assert_eq!(config.classes.iter().find(|class| class.name == "code").unwrap().output_tokens, 9);
    assert!(!config.providers.iter().any(|provider| provider.name == "ollama"));
}

#[test]
fn every_key_is_documented_in_the_default_file() {
    // The raw tables refuse unknown keys, so their field lists are all keys there are.
    let said = problem("[[deployment]]\nnonsense = 1")
        + &problem("[[provider]]\nnonsense = 1")
        + &problem("[server]\nnonsense = 1")
        + &problem("[policy]\nnonsense = 1")
        + &problem("[embedder]\nnonsense = 1")
        + &problem("[record]\nnonsense = 1");
    let keys: Vec<&str> = said.split('`').skip(1).step_by(2).filter(|key| *key != "nonsense").collect();
    assert!(keys.len() > 40, "{keys:?}");
    for key in keys {
        assert!(waypost::config::DEFAULT.contains(key), "`{key}` is not in default.toml");
    }
}
