//! Which instructions the kernels use: found once, the same binary everywhere.

use super::pack::Panels;
use super::portable;
use super::table::Kernels;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// An instruction set the kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target always has.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW and VNNI.
    Avx512,
    /// AVX-512's layout without its instructions.
    #[cfg(test)]
    Wide,
}

impl Level {
    /// All of them, slowest first.
    pub const ALL: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];

    /// The best this CPU has.
    pub fn detect() -> Self {
        Self::ALL.into_iter().rev().find(|level| level.is_available()).unwrap_or(Level::Portable)
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        self.find().is_some()
    }

    /// # Panics
    /// Where the CPU does not have it.
    pub(super) fn kernels(self) -> &'static Kernels {
        self.find().unwrap_or_else(|| panic!("this CPU does not have the instructions of {self:?}"))
    }

    pub(super) fn panels(self) -> Panels {
        let kernels = self.kernels();
        Panels { lanes: kernels.lanes, vectors: kernels.vectors }
    }

    #[cfg(target_arch = "x86_64")]
    fn find(self) -> Option<&'static Kernels> {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        match self {
            Level::Portable => Some(&portable::KERNELS),
            Level::Avx2 => avx2.then_some(&avx2::KERNELS),
            Level::Avx512 => avx512.then_some(&avx512::KERNELS),
            #[cfg(test)]
            Level::Wide => Some(&super::wide::KERNELS),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn find(self) -> Option<&'static Kernels> {
        match self {
            Level::Portable => Some(&portable::KERNELS),
            Level::Avx2 | Level::Avx512 => None,
            #[cfg(test)]
            Level::Wide => Some(&super::wide::KERNELS),
        }
    }
}
