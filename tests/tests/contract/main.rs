//! One contract, over every transport: what a subscriber can rely on, whichever way it came.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod control;
mod datagram;
mod endings;
mod events;
mod per_topic;
mod resume;
mod slow;

/// Makes a test of a function for each [`fanwire_tests::Way`].
macro_rules! on_every_way {
    ($($name:ident),+ $(,)?) => {
        on_every_way!(@ways [$($name),+]
            webtransport WebTransport, sse_h1 SseH1, sse_h1_tls SseH1Tls, sse_h2c SseH2c, sse_h2_tls SseH2Tls, sse_h3 SseH3);
    };
    (@ways $names:tt $($module:ident $way:ident),+) => {
        $(on_every_way!(@way $module $way $names);)+
    };
    (@way $module:ident $way:ident [$($name:ident),+]) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(fanwire_tests::Way::$way).await;
                }
            )+
        }
    };
}
pub(crate) use on_every_way;
