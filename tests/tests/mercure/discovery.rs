//! Where the hub is, for those who find its page.

use fanwire_tests::{Ask, TestHub, Version};
use http::{Method, StatusCode};

#[tokio::test]
async fn the_hubs_own_page_says_where_the_hub_is() {
    let hub = TestHub::start();
    for version in Version::ALL {
        for method in [Method::GET, Method::HEAD] {
            let answer = Ask::get("/").method(method.clone()).whole(version, &hub).await;
            assert_eq!(answer.status, StatusCode::OK, "{version:?}");
            let link = answer.header("link");
            assert_eq!(link, "</.well-known/mercure>; rel=\"mercure\"", "{version:?} {method}");
        }
    }
}
