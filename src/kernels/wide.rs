//! AVX-512's vector and panel in plain loops: so its layout is tested on CPUs that do not have it.

use super::lanes::Lanes;
use super::portable::Portable;

type Sixteen = Portable<16>;

super::table::kernels!(Sixteen, 4, []);
