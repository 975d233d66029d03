//! Faults of Redis and of servers, while publishers publish and followers follow: no number is used twice, and nothing that
//! was answered is missing in silence. `ENCKE_PLAYS` says how often each is played.

use rustix::process::Signal;

use super::*;
use crate::redis::Sentinels;

#[test]
fn cut_connections_lose_nothing() {
    let gaps = play(&[], |stage| {
        for turn in 0..6 {
            stage.doors[turn % 2].slam();
            stage.go_on();
        }
    });
    assert_eq!(gaps, 0);
}

#[test]
fn a_server_that_is_killed_and_restarted_loses_nothing() {
    play(&[], |stage| {
        for _ in 0..2 {
            stage.redis.kill();
            stage.redis.restart();
            stage.go_on();
        }
    });
}

#[test]
fn a_tail_that_a_power_cut_took_is_told() {
    let gaps = play(&[], |stage| {
        stage.redis.kill();
        stage.redis.cut_tail(4000);
        stage.redis.restart();
    });
    assert!(gaps > 0);
}

#[test]
fn an_empty_restart_is_told() {
    let gaps = play(&[], |stage| {
        stage.redis.kill();
        stage.redis.wipe();
        stage.redis.restart();
    });
    assert!(gaps > 0);
}

#[test]
fn keys_that_somebody_deletes_are_told() {
    let gaps = play(&[], |stage| {
        stage.redis.ask(&["FLUSHALL"]);
    });
    assert!(gaps > 0);
}

#[test]
fn a_replica_that_lacks_messages_takes_over() {
    let gaps = play(&[], |stage| {
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &stage.redis.addr.port().to_string()]);
        until("it follows", || {
            replica.ask(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        });
        stage.go_on();
        replica.signal(Signal::STOP);
        stage.go_on();
        stage.redis.kill();
        replica.signal(Signal::CONT);
        replica.ask(&["REPLICAOF", "NO", "ONE"]);
        stage.doors.iter().for_each(|door| door.lead(Some(replica.addr)));
        stage.redis = replica;
    });
    assert!(gaps > 0);
}

#[test]
fn two_halves_become_one() {
    let gaps = play(&[], |stage| {
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &stage.redis.addr.port().to_string()]);
        until("it follows", || {
            replica.ask(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        });
        // One server goes on with the old primary, the other with a new one.
        replica.ask(&["REPLICAOF", "NO", "ONE"]);
        stage.doors[1].lead(Some(replica.addr));
        well(&stage.nodes[1]);
        stage.go_on();
        stage.go_on();
        // The old one is demoted, and what only it had is gone. It still answers reads.
        stage.redis.ask(&["REPLICAOF", "127.0.0.1", &replica.addr.port().to_string()]);
        unwell(&stage.nodes[0], "engine: ");
        stage.doors[0].lead(Some(replica.addr));
        stage.redis = replica;
    });
    assert!(gaps > 0);
}

#[test]
fn a_slow_engine_is_waited_for() {
    let gaps = play(&[], |stage| {
        stage.doors[0].slow_down(Duration::from_millis(150));
        stage.go_on();
        stage.doors[0].slow_down(Duration::ZERO);
    });
    assert_eq!(gaps, 0);
}

#[test]
fn an_engine_that_cannot_be_reached_is_waited_for() {
    let gaps = play(&[], |stage| {
        stage.doors.iter().for_each(|door| door.lead(None));
        stage.nodes.iter().for_each(|node| unwell(node, "engine: "));
        stage.doors.iter().for_each(|door| door.lead(Some(stage.redis.addr)));
    });
    assert_eq!(gaps, 0);
}

#[test]
fn an_engine_that_is_stopped_is_waited_for() {
    let gaps = play(&[], |stage| {
        stage.redis.signal(Signal::STOP);
        stage.nodes.iter().for_each(|node| unwell(node, "engine: "));
        stage.redis.signal(Signal::CONT);
    });
    assert_eq!(gaps, 0);
}

#[test]
fn an_engine_without_memory_has_taken_nothing() {
    let gaps = play(&[], |stage| {
        stage.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        stage.nodes.iter().for_each(|node| unwell(node, "OOM"));
        stage.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    });
    assert_eq!(gaps, 0);
}

#[test]
fn an_engine_that_misses_its_replicas_has_taken_nothing() {
    let gaps = play(&[], |stage| {
        stage.redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        stage.nodes.iter().for_each(|node| unwell(node, "NOREPLICAS"));
        stage.redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    });
    assert_eq!(gaps, 0);
}

#[test]
fn history_that_was_evicted_is_told() {
    let gaps = play(&[], |stage| {
        stage.redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
        stage.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        until("all is evicted", || (stage.redis.ask(&["DBSIZE"]) == "0").then_some(()));
        stage.nodes.iter().for_each(|node| unwell(node, "engine: "));
        stage.redis.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        stage.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    });
    assert!(gaps > 0);
}

#[test]
fn a_full_disk_refuses_and_is_recovered_from() {
    if !Redis::can_be_small() {
        return println!("skipped: only root can mount a small file system");
    }
    let gaps = play_on(
        || Stage::around(Redis::start_small(32)),
        |stage| {
            stage.redis.fill_disk();
            stage.nodes.iter().for_each(|node| unwell(node, "MISCONF"));
            let refused = stage.nodes[0].ask("POST", "/pub/d", &[], b"refused");
            assert_eq!(refused.status, 503);
            assert!(refused.text().contains("No space left"), "{}", refused.text());
            stage.redis.free_disk();
        },
    );
    assert_eq!(gaps, 0);
}

/// A stage whose servers find the primary by Sentinels, its replica, and those.
fn watched() -> (Stage, Redis, Sentinels) {
    let redis = Redis::start(&[]);
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &redis.addr.port().to_string()]);
    let sentinels = Sentinels::watch(redis.addr);
    let url = sentinels.url();
    let nodes = [node(&url, &[]), node(&url, &[])];
    (Stage::with(redis, Vec::new(), nodes), replica, sentinels)
}

#[test]
fn sentinels_name_another_primary() {
    for _ in 0..plays() {
        let (mut stage, replica, sentinels) = watched();
        stage.redis.kill();
        sentinels.elect(replica.addr);
        stage.nodes.iter().for_each(well);
        assert!(stage.end() > 0, "what the replica may lack is told");
    }
}

#[test]
fn a_planned_failover_makes_the_old_primary_a_replica() {
    for _ in 0..plays() {
        let (stage, replica, sentinels) = watched();
        sentinels.fail_over();
        sentinels.elect(replica.addr);
        // The old one is well all the time, and answers reads: nobody stays with it.
        until("the old primary follows the new one", || {
            let info = stage.redis.try_ask(&["INFO", "replication"])?;
            (info.contains("role:slave") && info.contains("master_link_status:up")).then_some(())
        });
        stage.go_on();
        stage.nodes.iter().for_each(well);
        let last = |redis: &Redis| redis.try_ask(&["HGET", "{encke}:meta", "seq"])?.parse::<u64>().ok();
        let newest = last(&replica).expect("it has a history");
        until("it has what is published", || (last(&stage.redis)? >= newest).then_some(()));
        assert!(stage.end() > 0, "what the replica may have lacked is told");
    }
}

#[test]
fn a_server_that_is_stopped_for_a_while_misses_nothing() {
    let seconds = if std::env::var_os("ENCKE_SLOW_TESTS").is_some() { 60 } else { 2 };
    let gaps = play(&[], |stage| {
        stage.nodes[1].signal(Signal::STOP);
        thread::sleep(Duration::from_secs(seconds));
        stage.nodes[1].signal(Signal::CONT);
    });
    assert_eq!(gaps, 0);
}
