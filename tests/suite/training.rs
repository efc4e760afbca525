//! Training: seeded, saved and loaded without loss, measured honestly.

use crate::harness::ENCODER;
use indicatif::ProgressBar;
use waypost::classifier::{Exemplar, Inputs, RoutingModel, exemplar};
use waypost::embedder::Encoder;
use waypost::training::recipe::Recipe;
use waypost::training::{Task, Trained, report, train};

fn recipe() -> Recipe {
    Recipe { epochs: 4, width: 16, buckets: 512, folds: 3, ..Recipe::shipped() }
}

/// Every fiftieth exemplar: all classes, few enough to embed in seconds.
fn data() -> (Vec<Exemplar>, Vec<Inputs>) {
    let all = exemplar::read(&["data/exemplars"]).unwrap();
    let exemplars: Vec<Exemplar> = all.into_iter().filter(|exemplar| exemplar.prompt.len() < 300).step_by(40).collect();
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let inputs = exemplars
        .iter()
        .map(|exemplar| Inputs::gather(&encoder.embed(&exemplar.prompt).unwrap().0, &exemplar.prompt, recipe().buckets))
        .collect();
    (exemplars, inputs)
}

fn trained(exemplars: &[Exemplar], inputs: &[Inputs], seed: u64) -> Trained {
    let task =
        Task { name: "test", exemplars, inputs, recipe: &recipe(), seed, encoder: &ENCODER, window_chars: 2_048 };
    train(&task, &ProgressBar::hidden()).unwrap()
}

#[test]
fn same_data_and_seed_give_the_same_bytes_and_survive_the_disk() {
    let (exemplars, inputs) = data();
    let (one, two, other) =
        (trained(&exemplars, &inputs, 7), trained(&exemplars, &inputs, 7), trained(&exemplars, &inputs, 8));
    assert!(one.model.to_files(&one.space) == two.model.to_files(&two.space), "the same seed gave other bytes");
    assert!(one.model.to_files(&one.space) != other.model.to_files(&other.space), "the seed has no effect");

    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in one.model.to_files(&one.space) {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let loaded = RoutingModel::load(folder.path()).unwrap();
    for input in &inputs {
        let (a, b) = (one.model.estimate_inputs(input), loaded.estimate_inputs(input));
        assert_eq!((a.joined, a.confidence, a.hits), (b.joined, b.confidence, b.hits));
    }
    std::fs::write(folder.path().join("head.safetensors"), b"damaged").unwrap();
    assert!(RoutingModel::load(folder.path()).err().unwrap().to_string().contains("head.safetensors"));
}

#[test]
fn the_builtin_model_is_the_committed_one_and_estimates_are_probabilities() {
    let (builtin, committed) =
        (RoutingModel::builtin().unwrap(), RoutingModel::load("models/default".as_ref()).unwrap());
    assert_eq!(builtin.manifest, committed.manifest);
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    for text in ["hello", "SELECT 1", ""] {
        let estimate = builtin.estimate(&encoder.embed(text).unwrap().0, text);
        for shares in [&estimate.head, &estimate.neighbors, &estimate.joined] {
            assert!(
                (shares.iter().sum::<f64>() - 1.0).abs() < 1e-6
                    && shares.iter().all(|share| (0.0..=1.0).contains(share))
            );
        }
        assert!((0.0..=1.0 + 1e-6).contains(&estimate.confidence));
    }
}

#[test]
fn held_out_exemplars_are_not_trained_on_and_are_recognised() {
    let builtin = RoutingModel::builtin().unwrap();
    let heldout = exemplar::read(&["data/exemplars/heldout"]).unwrap();
    let known: std::collections::HashSet<&str> =
        builtin.exemplars.iter().map(|exemplar| exemplar.prompt.as_str()).collect();
    assert!(heldout.iter().all(|exemplar| !known.contains(exemplar.prompt.as_str())));
    assert!(
        4 * heldout.len() >= builtin.exemplars.len() / 2,
        "{} held out, {} trained on",
        heldout.len(),
        builtin.exemplars.len()
    );
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let few: Vec<&Exemplar> = heldout.iter().filter(|exemplar| exemplar.prompt.len() < 400).step_by(4).collect();
    let estimates: Vec<_> = few
        .iter()
        .map(|exemplar| builtin.estimate(&encoder.embed(&exemplar.prompt).unwrap().0, &exemplar.prompt))
        .collect();
    let labels: Vec<usize> = few
        .iter()
        .map(|exemplar| builtin.manifest.classes.iter().position(|class| *class == exemplar.class).unwrap())
        .collect();
    let measured = report::report(&builtin.manifest.classes, &estimates, &labels);
    assert!(measured.accuracy > 0.8, "accuracy {:.3} on {}", measured.accuracy, few.len());
}
