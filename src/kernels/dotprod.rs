//! NEON with SDOT, the dot product of bytes: from Cortex-A55 and A75, Neoverse N1 and Apple's A13 on.

use super::lanes::Lanes;
use super::neon::Neon;

type Dotprod = Neon<true>;

super::table::kernels!(Dotprod, 4, ["neon,dotprod"], native_halves: false);
