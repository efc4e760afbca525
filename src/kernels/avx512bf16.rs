//! AVX-512 on a CPU that multiplies bfloat16 by itself: two products an instruction.

use super::avx512::Avx512;
use super::lanes::Lanes;

type Bf16 = Avx512<true>;

super::table::kernels!(Bf16, 4, ["avx512f,avx512bw,avx512vnni,avx512bf16"], native_halves: true);
