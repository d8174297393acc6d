//! These need CAP_NET_RAW, or a group in net.ipv4.ping_group_range.

use healthcheck::{Check, Failure};

use crate::kit::{PATIENCE, SHORT, outcome, timed_out};

#[tokio::test]
async fn this_host_answers() {
    for address in ["127.0.0.1:80", "[::1]:80"] {
        let outcome = outcome(Check::Ping, address.parse().unwrap(), PATIENCE).await;
        assert!(outcome.result.is_ok(), "{address}: {outcome:?}");
        assert_eq!(outcome.steps.last().unwrap().what, "echo reply");
    }
}

#[tokio::test]
async fn nobody_answers_from_an_address_that_nobody_has() {
    // Reserved (RFC 1112, 4); documentation's addresses are used by some machines. Without any route to it, that is said instead.
    let result = outcome(Check::Ping, "240.0.0.1:80".parse().unwrap(), SHORT).await.result;
    let unreachable = matches!(result, Err(Failure::Unreachable(_)));
    assert!(unreachable || timed_out(&result) == Some("echo reply"), "{result:?}");
}
