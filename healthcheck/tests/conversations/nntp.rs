//! NNTP.

use std::time::Instant;

use healthcheck::{Check, Failure};

use crate::fake::{Fake, says};
use crate::{PATIENCE, fails, passes, run};

#[tokio::test]
async fn both_greetings_are_good_and_goodbye_is_said() {
    for greeting in ["200 InterNetNews NNRP server INN 2.7.1 ready (posting ok)\r\n", "201 no posting\r\n"] {
        let news = Fake::talks(greeting, &[("QUIT", "205 Bye!\r\n\0")]).await;
        passes(run(Check::Nntp, news.real).await);
        assert_eq!(news.heard(), ["QUIT"]);
    }
}

#[tokio::test]
async fn other_greetings_are_not() {
    for (greeting, code) in
        [("400 busy\r\n", 400), ("502 go away\r\n", 502), ("205 bye\r\n", 205), ("220 mx ESMTP\r\n", 220)]
    {
        fails(run(Check::Nntp, says(greeting.as_bytes()).await).await, &Failure::Status(code));
    }
}

#[tokio::test]
async fn who_greets_but_does_not_part_has_passed_and_is_not_waited_for_long() {
    let news = Fake::talks("200 ready\r\n", &[]).await;
    let began = Instant::now();
    passes(run(Check::Nntp, news.real).await);
    assert!(began.elapsed() < PATIENCE / 2);
}
