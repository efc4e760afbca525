//! AVX-512's vector and panels in plain loops, bfloat16 in twos among them: so its layouts are tested on CPUs that do not
//! have it.

use super::lanes::Lanes;
use super::portable::Portable;

type Sixteen = Portable<16>;

super::table::kernels!(Sixteen, 4, [], native_halves: true);
