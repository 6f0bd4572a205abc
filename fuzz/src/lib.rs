//! What is done with an input found by fuzzing, and what must hold afterwards. The fuzz targets run
//! these functions on inputs that libFuzzer makes, the tests of the product on those of the corpus.

pub mod frame;
pub mod input;
pub mod net;
pub mod node;
pub mod wire;
