//! Two endpoints in virtual time.

use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;

#[test]
fn one_rpc_of_every_size_class() {
    for len in [1, 2, 100, 1_423, 1_424, 1_425, 5_000, 39_872, 40_000, 40_001, 100_000, 1_000_000] {
        let mut pair = Pair::new(Config::default());
        pair.call(len, 7);
        pair.run(Nanos::from_ms(20), echo);
        let (cookie, result) = pair.responses.pop().expect("a response");
        assert_eq!(cookie, 7);
        assert_eq!(result.unwrap().to_vec(), pattern(len, 7), "{len} bytes");
        pair.assert_empty();
        assert_eq!(pair.shards[0].metrics().duplicates, 0);
    }
}
