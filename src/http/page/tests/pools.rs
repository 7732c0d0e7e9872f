//! The section of the pools and servers, and what the overview shows of them.

use super::*;

#[test]
fn falseticker_pools_contradictions_and_one_server_pools_are_shown() {
    let mut fixture = Fixture::new();
    let agreed = fixture.snapshot.measured.unwrap();
    let ahead = Offset::from_nanos(agreed.offset.as_nanos() + 10_020 * MS);
    fixture.snapshot.pools[1].is_falseticker = true;
    fixture.snapshot.pools[1].measured = Some(Measurement::new(ahead, Bound::from_nanos(2 * MS)));
    fixture.snapshot.pools[0].same_server_as = Some(1);
    (fixture.snapshot.pools_agreeing, fixture.snapshot.pools_independent) = (1, Some(false));
    let page = fixture.page();
    assert_contains(
        &page,
        "Pools and servers",
        &[
            "; falseticker: 10.0 s ahead of the others; newest",
            "; looks like the same server as pool-1.invalid;",
        ],
    );
    let document = parse(&page);
    let facts = text(elements(&document, "section").next().unwrap());
    assert!(
        facts.contains("1 of 2 10.0 s apart; pool-1.invalid is wrong; two look like one server"),
        "{facts}"
    );
    fixture.snapshot.is_contradiction = true;
    let page = fixture.page();
    let document = parse(&page);
    let facts = text(elements(&document, "section").next().unwrap());
    assert!(facts.contains("apart; they contradict each other"), "{facts}");
}

#[test]
fn a_pool_that_is_the_only_one_is_marked_in_the_overview_and_the_verdict() {
    let mut fixture = Fixture::new();
    fixture.snapshot.pools.truncate(1);
    fixture.snapshot.pools_agreeing = 1;
    let page = fixture.page();
    let document = parse(&page);
    let facts = text(elements(&document, "section").next().unwrap());
    assert!(facts.contains("1 of 1 the only pool: nothing confirms it"), "{facts}");
    assert!(
        page.contains("pool-0.invalid is the only pool (allowSinglePool): nothing confirms it."),
        "{page}"
    );
}

#[test]
fn assumed_root_distances_are_marked_at_the_pool_the_offset_and_the_verdict() {
    let mut fixture = Fixture::new();
    fixture.snapshot.pools[0].assumed_root_distance = Some(Duration::from_millis(20));
    let page = fixture.page();
    assert!(section(&page, "Pools and servers").contains(" (assumed)"), "{page}");
    let document = parse(&page);
    let facts = text(elements(&document, "section").next().unwrap());
    assert!(facts.contains(" assumed, measured "), "{facts}");
    assert!(page.contains("a configured rootDistance of 20 ms for pool-0.invalid."), "{page}");
}

#[test]
fn servers_slowed_by_a_kiss_are_measured_and_shown_as_slowed() {
    let mut fixture = Fixture::new();
    fixture.snapshot.pools[0].servers[0].state = ServerState::BackedOff;
    assert_contains(
        &fixture.page(),
        "Pools and servers",
        &[
            "Reports",
            "; slowed by its servers (kiss-o'-death); newest",
            " slowed by the server (kiss-o'-death) ",
        ],
    );
    fixture.snapshot.pools[0].servers[0].measured = None;
    fixture.snapshot.pools[0].servers[0].last = Some(Err(RejectReason::ClientsDisagree));
    assert_contains(
        &fixture.page(),
        "Pools and servers",
        &[" backed off - two clients measure it differently"],
    );
}

#[test]
fn every_server_is_listed_with_its_last_rejection() {
    let mut fixture = Fixture::new();
    let server = |state, is_falseticker, last, rejected| ServerSnapshot {
        address: "[2001:db8::1]:123".parse().unwrap(),
        state,
        is_falseticker,
        measured: None,
        last,
        rejected,
    };
    let minutes = |n: u64| Duration::from_secs(60 * n);
    fixture.snapshot.pools[0].servers = vec![
        server(ServerState::Reachable, true, Some(Ok(())), Some((minutes(3), RejectReason::SlowRoundTrip))),
        server(
            ServerState::Unreachable,
            false,
            Some(Err(RejectReason::Timeout)),
            Some((minutes(1), RejectReason::Timeout)),
        ),
        server(ServerState::BackedOff, false, Some(Err(RejectReason::Kiss(Kiss::Deny))), None),
    ];
    fixture.snapshot.pools[1].servers.clear();
    fixture.snapshot.pools[1].measured = None;
    fixture.snapshot.pools[1].resolve_error = Some("no such name".to_owned());
    fixture.snapshot.counts.samples[0].insert("timeout", 41);
    assert_contains(
        &fixture.page(),
        "Pools and servers",
        &[
            "[2001:db8::1]:123 falseticker - accepted 3 min ago: round trip over the limit",
            "[2001:db8::1]:123 unreachable - no answer 1 min ago: no answer",
            "[2001:db8::1]:123 backed off (kiss-o'-death) - denies service (kiss-o'-death) never",
            "41 timeout",
            "pool-1.invalid Unreachable: the name does not resolve: no such name",
        ],
    );
}
