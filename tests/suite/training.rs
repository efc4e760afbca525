//! Training: seeded, saved and loaded without loss, measured honestly.

use crate::harness::ENCODER;
use indicatif::ProgressBar;
use waypost::classifier::head::Teaching;
use waypost::classifier::model::Parts;
use waypost::classifier::{Estimate, Exemplar, RoutingModel, exemplar, inputs};
use waypost::embedder::Encoder;
use waypost::training::recipe::{Fitting, Recipe};
use waypost::training::{Task, report, train};

fn recipe() -> Recipe {
    let shipped = Recipe::shipped();
    let small =
        |fitting: Fitting| Fitting { folds: 3, familiar_folds: 2, hidden: 16, components: 8, epochs: 3, ..fitting };
    Recipe { min_steps: 30, labels: small(shipped.labels), outcomes: small(shipped.outcomes), ..shipped }
}

/// Every so many exemplars: all classes, few enough to embed in seconds.
fn data() -> (Vec<Exemplar>, Vec<Vec<f32>>) {
    let all = exemplar::read(&["data/exemplars"], &[]).unwrap();
    let exemplars: Vec<Exemplar> = all.into_iter().filter(|exemplar| exemplar.prompt.len() < 200).step_by(50).collect();
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let inputs = exemplars.iter().map(|one| inputs(&encoder.embed(&one.prompt).unwrap().0, &one.prompt)).collect();
    (exemplars, inputs)
}

fn trained(exemplars: &[Exemplar], inputs: &[Vec<f32>], seed: u64) -> Parts {
    let task = Task {
        name: "test",
        exemplars,
        inputs,
        reworded: &[],
        recipe: &recipe(),
        seed,
        encoder: &ENCODER,
        window_chars: 2_048,
    };
    train(&task, &ProgressBar::hidden()).unwrap()
}

#[test]
fn same_data_and_seed_give_the_same_bytes_and_survive_the_disk() {
    let (exemplars, inputs) = data();
    let (one, two, other) =
        (trained(&exemplars, &inputs, 7), trained(&exemplars, &inputs, 7), trained(&exemplars, &inputs, 8));
    assert!(one.to_files() == two.to_files(), "the same seed gave other bytes");
    assert!(one.to_files() != other.to_files(), "the seed has no effect");

    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in one.to_files() {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let (made, loaded) = (RoutingModel::assemble(one).unwrap(), RoutingModel::load(folder.path()).unwrap());
    for input in &inputs {
        let (a, b) = (made.estimate_inputs(input), loaded.estimate_inputs(input));
        assert_eq!((a.joined, a.confidence, a.hits), (b.joined, b.confidence, b.hits));
    }
    // A model whose exits each decided by itself alone goes the whole road.
    let manifest = std::fs::read_to_string(folder.path().join("manifest.json")).unwrap();
    std::fs::write(folder.path().join("manifest.json"), manifest.replace("\"early_exits\"", "\"exits\"")).unwrap();
    assert!(!made.manifest.exits.is_empty(), "a model of these exemplars has exits");
    assert!(RoutingModel::load(folder.path()).unwrap().manifest.exits.is_empty());
    std::fs::write(folder.path().join("head.safetensors"), b"damaged").unwrap();
    assert!(RoutingModel::load(folder.path()).err().unwrap().to_string().contains("head.safetensors"));
}

#[test]
fn outcomes_teach_the_same_estimator_and_their_names_are_its_classes() {
    let (mut exemplars, inputs) = data();
    // The small model answers well what is not code; costs are told for both.
    for one in &mut exemplars {
        let small = if one.class == "code" { 0.1 } else { 0.9 };
        one.score = [("large".to_string(), 0.9), ("small".to_string(), small)].into();
        one.cost = [("large".to_string(), 0.01), ("small".to_string(), 0.001)].into();
    }
    exemplars[0].score.remove("large");
    let parts = trained(&exemplars, &inputs, 1);
    assert_eq!((parts.manifest.teaching, parts.manifest.classes.join(" ")), (Teaching::Outcomes, "large small".into()));
    assert_eq!((parts.manifest.default_class.as_str(), parts.manifest.cost.len()), ("large", 2));
    let model = RoutingModel::assemble(parts).unwrap();
    let mean = |code: bool| {
        let some: Vec<f64> = exemplars
            .iter()
            .zip(&inputs)
            .filter(|(one, _)| (one.class == "code") == code)
            .map(|(_, input)| model.estimate_inputs(input).joined[1])
            .collect();
        some.iter().sum::<f64>() / some.len() as f64
    };
    assert!(mean(false) > mean(true) + 0.05, "small on others {:.3}, on code {:.3}", mean(false), mean(true));
}

#[test]
fn an_exemplar_added_is_the_nearest_and_counts_and_one_removed_is_gone() {
    let (exemplars, inputs) = data();
    let model = RoutingModel::assemble(trained(&exemplars, &inputs, 7)).unwrap();
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let text = "Frobnicate the quux before the ninth bell, please";
    let views = encoder.embed(text).unwrap().0;
    let label = model.manifest.classes.iter().position(|class| class == "tools").unwrap();
    let one = Exemplar { id: "new".into(), prompt: text.into(), class: "tools".into(), ..Exemplar::default() };
    let more = model.with(one.clone(), &views, text).unwrap();
    let (before, after) = (model.estimate(&views, text), more.estimate(&views, text));
    assert_eq!(more.exemplars[after.hits[0].position].id, "new");
    let neighbors = |estimate: &Estimate| estimate.sources.as_ref().unwrap()[2][label];
    assert!(neighbors(&after) > neighbors(&before) && after.joined[label] > before.joined[label]);
    let fewer = more.without("new").unwrap();
    assert_eq!(fewer.estimate(&views, text).joined, before.joined);
    assert!(fewer.exemplar("new").is_none() && fewer.without("new").is_none());
    assert!(model.with(Exemplar { class: "unheard of".into(), ..one }, &views, text).is_err());
}

#[test]
fn the_builtin_model_is_the_committed_one_and_estimates_are_probabilities() {
    let (builtin, committed) =
        (RoutingModel::builtin().unwrap(), RoutingModel::load("models/default".as_ref()).unwrap());
    assert_eq!(builtin.manifest, committed.manifest);
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    for text in ["hello", "SELECT 1", ""] {
        let estimate = builtin.estimate(&encoder.embed(text).unwrap().0, text);
        for shares in estimate.sources.iter().flatten().chain([&estimate.joined]) {
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
    let heldout = exemplar::read(&["data/exemplars/heldout"], &[]).unwrap();
    let known: std::collections::HashSet<&str> =
        builtin.exemplars.iter().map(|exemplar| exemplar.prompt.as_str()).collect();
    assert!(heldout.iter().all(|exemplar| !known.contains(exemplar.prompt.as_str())));
    let encoder = Encoder::load(ENCODER.clone()).unwrap();
    let few: Vec<&Exemplar> = heldout.iter().filter(|exemplar| exemplar.prompt.len() < 400).step_by(4).collect();
    let estimates: Vec<_> = few
        .iter()
        .map(|exemplar| builtin.estimate(&encoder.embed(&exemplar.prompt).unwrap().0, &exemplar.prompt))
        .collect();
    let labels: Vec<Option<usize>> =
        few.iter().map(|exemplar| builtin.manifest.classes.iter().position(|class| *class == exemplar.class)).collect();
    let measured = report::report(&builtin.manifest.classes, &estimates, &labels);
    assert!(measured.accuracy > 0.85, "accuracy {:.3} on {}", measured.accuracy, few.len());
}

#[test]
fn early_exits_rest_while_exemplars_are_added_or_removed() {
    let builtin = RoutingModel::builtin().unwrap();
    let text = "What is the capital of France?";
    let views = Encoder::load(ENCODER.clone()).unwrap().embed(text).unwrap().0;
    let exit = |model: &RoutingModel| model.read_inputs(&inputs(&views, text)).exit;
    let one = Exemplar { id: "new".into(), prompt: text.into(), class: "tools".into(), ..Exemplar::default() };
    let more = builtin.with(one, &views, text).unwrap();
    assert!(exit(&builtin).is_some() && exit(&more).is_none());
    assert_eq!(exit(&more.without("new").unwrap()), exit(&builtin));
    let first = builtin.exemplars[0].id.clone();
    assert!(exit(&builtin.without(&first).unwrap()).is_none());
}
