//! Which instructions the kernels use: found once, the same binary everywhere.

use super::pack::Panels;
use super::portable;
use super::table::Kernels;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512, avx512bf16};
#[cfg(target_arch = "aarch64")]
use super::{dotprod, neon};
#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected as has;
#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected as has;
use std::sync::OnceLock;

/// Names the highest level to be used, to find out what one is worth or whether one is at fault.
pub const INSTRUCTIONS: &str = "WAYPOST_INSTRUCTIONS";

/// An instruction set the kernels are written for. NEON's two stand below AVX2: floats computed at
/// `Level::detect().min(Level::Avx2)` are the same to the bit on every CPU with NEON, and on every one with AVX2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target always has.
    Portable,
    /// NEON.
    Neon,
    /// NEON with SDOT, the dot product of bytes; of floats it makes the same as without, to the bit.
    Dotprod,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW and VNNI.
    Avx512,
    /// The same with BF16.
    Avx512Bf16,
    /// AVX-512's layout without its instructions.
    #[cfg(test)]
    Wide,
}

impl Level {
    /// All of them, an architecture's slowest first.
    pub const ALL: [Level; 6] =
        [Level::Portable, Level::Neon, Level::Dotprod, Level::Avx2, Level::Avx512, Level::Avx512Bf16];

    /// The best this CPU has, and of these none above the one that the environment variable [`INSTRUCTIONS`] names. Looked for once.
    pub fn detect() -> Self {
        static FOUND: OnceLock<Level> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let most = Self::most().ok().flatten();
            let allowed = |level: &Level| level.is_available() && most.is_none_or(|most| *level <= most);
            Self::ALL.into_iter().rev().find(allowed).unwrap_or(Level::Portable)
        })
    }

    /// The level that [`INSTRUCTIONS`] names, if any.
    ///
    /// # Errors
    /// What was expected, when this CPU has no level of that name.
    pub fn most() -> Result<Option<Level>, String> {
        let Ok(word) = std::env::var(INSTRUCTIONS) else { return Ok(None) };
        let available = || Self::ALL.into_iter().filter(|level| level.is_available());
        let named = available().find(|level| level.name() == word);
        let names = || available().map(Level::name).collect::<Vec<_>>().join(", ");
        named.map(Some).ok_or_else(|| format!("expected one of {}, got \"{word}\"", names()))
    }

    /// Its name, as users read and write it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Neon => "neon",
            Level::Dotprod => "dotprod",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512bf16",
            #[cfg(test)]
            Level::Wide => "wide",
        }
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

    fn find(self) -> Option<&'static Kernels> {
        match self {
            Level::Portable => Some(&portable::KERNELS),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => has!("neon").then_some(&neon::KERNELS),
            #[cfg(target_arch = "aarch64")]
            Level::Dotprod => (has!("neon") && has!("dotprod")).then_some(&dotprod::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => (has!("avx2") && has!("fma")).then_some(&avx2::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => (has!("avx512f") && has!("avx512bw") && has!("avx512vnni")).then_some(&avx512::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => (Level::Avx512.is_available() && has!("avx512bf16")).then_some(&avx512bf16::KERNELS),
            #[cfg(test)]
            Level::Wide => Some(&super::wide::KERNELS),
            // Another architecture's.
            _ => None,
        }
    }
}
