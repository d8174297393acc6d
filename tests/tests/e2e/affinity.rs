//! A flow stays with its real server, whatever happens to weights and tables.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::clients::{Curl, Load, Session};
use tests::lab::{Config, Lab, Service};

use crate::farm::{self, LOAD, WAYS, ensure_shares, everywhere, url, web, with_reals};

/// Long-lived connections to port 7 on every way, and loads on port 80.
fn sessions(lab: &Lab) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for (_, vip, _) in WAYS {
        for _ in 0..3 {
            sessions.push(Session::start(lab.client(), SocketAddr::new(vip.parse()?, 7))?);
        }
    }
    Ok(sessions)
}

fn echo_and_web(weights: &[u16]) -> Config {
    WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        let echo = with_reals(Service::tcp(&format!("{name}-echo"), vip, 7), vip, nat, weights);
        config.service(web(name, vip, nat, weights).scheduler("wrr")).service(echo)
    })
}

fn finish(sessions: Vec<Session>) -> Result<()> {
    for session in sessions {
        let report = session.finish()?;
        report.ensure_whole()?;
        ensure!(report.answered > 20, "{report:?}");
    }
    Ok(())
}

#[test]
fn flows_stay_while_weights_change_under_load() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let _echoes = farm::tcp_echoes(&lab, 7)?;
    let director = lab.director(echo_and_web(&[1, 1, 1]))?;
    let sessions = sessions(&lab)?;
    let mut loads = Vec::new();
    for (_, vip, _) in WAYS {
        loads.push(Load::new(&url(vip, 80), LOAD).connections(6).threads(1).start(lab.client())?);
    }
    // Turn after turn, each real server drains, and comes back with another weight.
    for turn in 0..6u16 {
        for (name, vip, _) in WAYS {
            let real = crate::farm::real(u32::from(turn % 3) + 1, vip);
            for service in [name.to_owned(), format!("{name}-echo")] {
                director.cli_ok(&["drain", &service, &real])?;
                director.cli_ok(&["weight", &service, &real, &(turn + 1).to_string()])?;
            }
        }
    }
    for load in loads {
        load.finish()?.ensure_clean()?;
    }
    finish(sessions)
}

#[test]
fn a_drained_real_server_gets_nothing_new_and_keeps_what_it_has() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let _echoes = farm::tcp_echoes(&lab, 7)?;
    let director = lab.director(echo_and_web(&[1, 1, 1]))?;
    let sessions = sessions(&lab)?;
    for (name, vip, _) in WAYS {
        for service in [name.to_owned(), format!("{name}-echo")] {
            director.cli_ok(&["drain", &service, &crate::farm::real(1, vip)])?;
        }
        let answers = Curl::new(&url(vip, 80), 30).run(lab.client())?;
        ensure_shares(&answers, [0, 15, 15], 3)?;
    }
    ensure!(sessions.iter().any(|session| session.real() == "real1"), "no session was on real1");
    // Over a reload, the operator's word stays on top.
    director.reload(echo_and_web(&[5, 5, 5]))?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 30).run(lab.client())?;
        ensure_shares(&answers, [0, 15, 15], 3)?;
        director.cli_ok(&["enable", name, &crate::farm::real(1, vip)])?;
        let answers = Curl::new(&url(vip, 80), 30).run(lab.client())?;
        ensure_shares(&answers, [10, 10, 10], 4)?;
    }
    finish(sessions)
}

#[test]
fn reloads_under_load_fail_no_request() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let director = lab.director(everywhere())?;
    let mut loads = Vec::new();
    for (_, vip, _) in WAYS {
        loads.push(Load::new(&url(vip, 80), LOAD).connections(6).threads(1).close().start(lab.client())?);
    }
    let mut reloads = 0;
    while loads.iter_mut().all(tests::clients::RunningLoad::is_running) {
        // Schedulers, weights, an unrelated service: something changes every time.
        let schedulers = ["rr", "wrr", "mh"];
        let config = WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
            let weights = [1 + reloads % 5, 2, 1 + reloads % 3];
            config.service(web(name, vip, nat, &weights).scheduler(schedulers[usize::from(reloads % 3)]))
        });
        let extra = format!("extra{}", reloads % 2);
        let extra = with_reals(Service::tcp(&extra, WAYS[0].1, 9000 + reloads % 2), WAYS[0].1, false, &[1]);
        let output = director.reload(config.service(extra))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        reloads += 1;
    }
    for load in loads {
        load.finish()?.ensure_clean()?;
    }
    ensure!(reloads > 5, "only {reloads} reloads");
    Ok(())
}

#[test]
fn a_removed_real_servers_flows_end_at_once() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _echoes = farm::tcp_echoes(&lab, 7)?;
    let config = |weights: &[u16]| {
        WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
            let echo = with_reals(Service::tcp(name, vip, 7), vip, nat, weights);
            config.service(echo.set("unserved", "reject"))
        })
    };
    let director = lab.director(config(&[1, 1, 1]))?;
    let sessions = sessions(&lab)?;
    director.reload(config(&[1, 1]))?;
    // Never black-holed: those on real3 are reset, so that their clients start over; the others do not notice.
    for session in sessions {
        if session.real() == "real3" {
            tests::wait::until("the reset", Duration::from_secs(3), || {
                Ok(session.has_ended().then_some(()))
            })?;
            ensure!(session.finish()?.broken.is_some());
        } else {
            session.finish()?.ensure_whole()?;
        }
    }
    Ok(())
}
