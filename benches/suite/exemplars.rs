//! Routing models of any number of exemplars: the builtin one's, over and over, each copy a little beside its place.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use waypost::classifier::head::tensors_from_bytes;
use waypost::classifier::index::dot;
use waypost::classifier::model::Parts;
use waypost::classifier::{Exemplar, RoutingModel};

/// How far a copy lies beside: cosines to its original are about 0.98, as of near neighbors.
const NOISE: f32 = 0.2;

/// So many places in the learned space, row after row of unit length, and the width of a row.
pub fn places(model: &RoutingModel, count: usize, seed: u64) -> (usize, Vec<f32>) {
    let (width, originals) = (model.head.width(), space());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Noise of this length on the whole of a vector of unit length.
    let each = NOISE / (width as f32).sqrt() * 3f32.sqrt();
    let mut places: Vec<f32> = originals.into_iter().cycle().take(count * width).collect();
    for place in places.chunks_exact_mut(width) {
        place.iter_mut().for_each(|x| *x += random.random_range(-each..each));
        let length = dot(place, place).sqrt();
        place.iter_mut().for_each(|x| *x /= length);
    }
    (width, places)
}

/// A routing model like the builtin one, of so many exemplars.
pub fn routing_model(count: usize) -> RoutingModel {
    let builtin = RoutingModel::builtin().expect("the builtin model is whole");
    let (_, space) = places(&builtin, count, 1);
    let copy = |(number, exemplar): (usize, &std::sync::Arc<Exemplar>)| Exemplar {
        id: format!("{}-{number}", exemplar.id),
        ..Exemplar::clone(exemplar)
    };
    let mut manifest = builtin.manifest.as_ref().clone();
    manifest.exemplars = count;
    let classes = manifest.classes.len();
    let parts = Parts {
        manifest,
        head: builtin.head.as_ref().clone(),
        exemplars: builtin.exemplars.iter().cycle().take(count).enumerate().map(copy).collect(),
        space,
        out_of_fold: builtin.out_of_fold.iter().copied().cycle().take(count * classes).collect(),
    };
    RoutingModel::assemble(parts).expect("the parts fit one another")
}

/// The places of the builtin model's exemplars.
fn space() -> Vec<f32> {
    let files = RoutingModel::builtin_files();
    let (_, bytes) = files.iter().find(|(name, _)| *name == "space.safetensors").expect("the builtin model has places");
    let mut tensors = tensors_from_bytes(bytes).expect("the builtin model's places can be read");
    tensors.remove("space").expect("the builtin model has places")
}
