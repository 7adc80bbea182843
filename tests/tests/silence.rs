//! The object `silence` on the running kernel: it notices when nothing comes back on the subflows of its own namespace,
//! and holds its peace otherwise.
mod common;
#[path = "silence/net.rs"]
mod net;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mptcp_common::silence::MAX_WATCHED;
use mptcp_pm::bpf::silence::Kind;
use net::{Net, Unwatched, pairs, say};
use tests::Outage;
use tests::daemon::await_that;
use tests::observer::Observer;
use tests::queue::Settings;
use tests::traffic::{Job, Options};

const WIFI: &str = "wifi";
const MESSAGES: Job = Job::RequestResponse;

/// The paths: link, interface, local address. Over the first one nothing is bound to the interface.
const PATHS: [(&str, &str, &str); 2] = [(WIFI, "wifi0", "10.1.0.2"), ("lte", "lte0", "10.2.0.2")];

#[test]
fn an_upload_that_falls_silent_is_late_and_then_silent_once() -> Result<()> {
    on_each_path(&Options::duration(net::EVER), |path, options| falls_silent(path, Job::BulkUp, options))
}

#[test]
#[ignore = "takes a quarter of a minute or more: run it by name"]
fn so_are_small_messages() -> Result<()> {
    on_each_path(&messages(), |path, options| falls_silent(path, MESSAGES, options))
}

#[test]
fn a_download_that_stops_is_quiet_until_something_is_heard() -> Result<()> {
    on_each_path(&Options::duration(net::EVER), stops)
}

type Path = (&'static str, &'static str, &'static str);

fn on_each_path(options: &Options, test: impl Fn(Path, Options) -> Result<()>) -> Result<()> {
    for congestion in ["cubic", "bbr"] {
        for path in PATHS {
            let mut options = Options { congestion: Some(congestion.to_owned()), ..options.clone() };
            if path.0 != WIFI {
                (options.interface, options.bind) = (Some(path.1.to_owned()), Some(path.2.parse()?));
            }
            print!("{congestion} over {}, ", path.0);
            test(path, options).with_context(|| format!("{congestion} over {}", path.0))?;
        }
    }
    Ok(())
}

fn falls_silent((link, interface, _): Path, job: Job, options: Options) -> Result<()> {
    let mut net = Net::start()?;
    let traffic = net.traffic(job, options)?;
    let begin = net.outage(link)?;
    let alarms = net.told_until(Kind::Silent)?;
    let [.., late, silent] = alarms.as_slice() else { panic!("{alarms:?}") };
    assert_eq!((late.kind, late.cookie, silent.after), (Kind::Late, silent.cookie, None));
    let subflow = net.subflow()?;
    for alarm in [late, silent] {
        assert_eq!(alarm.cookie, subflow.cookie);
        assert_eq!(alarm.token, subflow.token);
        assert_eq!(Some(alarm.local), traffic.local());
        assert_eq!(alarm.remote.ip().to_string(), "10.9.0.2");
        assert_eq!(alarm.ifindex, net.ifindex(interface)?);
        assert!(alarm.in_flight > 0 && alarm.rtt > Duration::ZERO, "{alarm:?}");
    }
    assert!(late.silent < silent.silent && late.at_ns < silent.at_ns);
    say(job, &[late, silent], begin);
    // It has nothing more to say, however long this lasts: the kernel's own timeouts, of which each is a chance.
    net.await_timeouts(3)?;
    assert_eq!(net.silence.waiting(), None);
    net.lab.link(link).outage(Outage::None)?;
    let heard = net.next()?;
    assert_eq!((heard.kind, heard.cookie, heard.after), (Kind::Heard, subflow.cookie, Some(Kind::Silent)));
    let lasted = Duration::from_nanos(heard.at_ns - silent.at_ns) + silent.silent;
    assert!(heard.silent <= lasted && heard.silent > silent.silent, "{heard:?} of {lasted:?}");
    Ok(())
}

fn stops((link, interface, _): Path, options: Options) -> Result<()> {
    let mut net = Net::start()?;
    let traffic = net.traffic(Job::BulkDown, options)?;
    let begin = net.outage(link)?;
    let alarms = net.told_until(Kind::Quiet)?;
    let quiet = alarms.last().context("an alarm")?;
    assert_eq!((quiet.cookie, quiet.in_flight), (net.subflow()?.cookie, 0));
    assert_eq!((Some(quiet.local), quiet.ifindex), (traffic.local(), net.ifindex(interface)?));
    say(Job::BulkDown, &[quiet], begin);
    net.lab.link(link).outage(Outage::None)?;
    let heard = net.next()?;
    assert_eq!((heard.kind, heard.cookie, heard.after), (Kind::Heard, quiet.cookie, Some(Kind::Quiet)));
    assert!(heard.silent > quiet.silent);
    Ok(())
}

#[test]
fn who_is_idle_is_not_looked_at_and_not_suspected() -> Result<()> {
    let mut net = Net::start()?;
    let connections = net.lab.host("client").run(|| pairs(3))?;
    net.await_rest()?;
    assert_eq!(net.silence.waiting(), None);
    assert_eq!(net.silence.watched()?, 6);
    // What moves again is looked at again.
    let before = net.silence.counts()?.looks;
    net::pass_a_byte(&connections[0])?;
    await_that("a look", || Ok(net.silence.counts()?.looks), |looks| *looks > before)?;
    net.await_rest()?;
    assert_eq!(net.silence.waiting(), None);
    Ok(())
}

#[test]
fn a_message_into_a_path_that_went_silent_meanwhile_is_noticed() -> Result<()> {
    let mut net = Net::start()?;
    let options = Options { interval: Duration::from_secs(5), ..messages() };
    let traffic = net.traffic_of(MESSAGES, options, 1000)?;
    net.await_rest()?;
    net.outage(WIFI)?;
    let alarms = net.told_until(Kind::Silent)?;
    assert_eq!(Some(alarms[0].local), traffic.local());
    Ok(())
}

#[test]
#[ignore = "takes a quarter of a minute or more: run it by name"]
fn jitter_is_not_silence() -> Result<()> {
    for job in [Job::BulkUp, Job::BulkDown, MESSAGES] {
        healthy(job, |settings| settings.jitter = Duration::from_millis(50))?;
    }
    Ok(())
}

#[test]
#[ignore = "takes a quarter of a minute or more: run it by name"]
fn loss_is_not_silence() -> Result<()> {
    for job in [Job::BulkUp, Job::BulkDown] {
        healthy(job, |settings| settings.loss = 0.02)?;
    }
    Ok(())
}

#[test]
#[ignore = "takes a quarter of a minute or more: run it by name"]
fn a_long_queue_is_not_silence() -> Result<()> {
    for job in [Job::BulkUp, Job::BulkDown] {
        // A second of it.
        healthy(job, |settings| (settings.rate, settings.queue) = (10_000_000, 1_250_000))?;
    }
    Ok(())
}

/// Ten seconds over a path that is bad but lives.
fn healthy(job: Job, set: impl Fn(&mut Settings)) -> Result<()> {
    let measure = || {
        let mut net = Net::start()?;
        net.lab.link(WIFI).set(&set);
        let options =
            Options { interval: Duration::from_millis(20), ..Options::duration(Duration::from_secs(6)) };
        let traffic = net.traffic_of(job, options, 1000)?;
        let local = traffic.local();
        traffic.join()?;
        let told: Vec<_> = std::iter::from_fn(|| net.silence.waiting()).collect();
        let number =
            |kind| told.iter().filter(|alarm| alarm.kind == kind && Some(alarm.local) == local).count();
        println!(
            "{job:?}: {} late, {} silent, {:?}",
            number(Kind::Late),
            number(Kind::Silent),
            net.silence.counts()?
        );
        Ok(number(Kind::Silent))
    };
    // A machine that is busy with other things is silent at times.
    let silent = common::undisturbed(measure, |silent| *silent == 0)?;
    ensure!(silent == 0, "{job:?}: {silent} times silent");
    Ok(())
}

#[test]
fn the_subflows_of_other_namespaces_are_not_watched() -> Result<()> {
    let net = Net::start()?;
    let _elsewhere = net.lab.host("internet").run(|| pairs(5))?;
    assert_eq!(net.silence.watched()?, 0);
    let _traffic = net.traffic(MESSAGES, messages())?;
    // The other end is in the server's.
    assert_eq!(net.silence.watched()?, 1);
    assert_eq!(net.silence.counts()?.not_watched, 0);
    Ok(())
}

#[test]
fn what_there_is_no_room_for_is_counted() -> Result<()> {
    let net = Net::start()?;
    net::allow_files(6000)?;
    // Both ends are here.
    let mut open = net.lab.host("client").run(|| pairs(2500))?;
    assert_eq!(net.silence.watched()?, MAX_WATCHED);
    assert_eq!(net.silence.counts()?.not_watched, 5000 - MAX_WATCHED as u64);
    open.truncate(1000);
    await_that("room", || Ok(net.silence.watched()?), |watched| *watched <= 2000)?;
    let _more = net.lab.host("client").run(|| pairs(100))?;
    assert!(net.silence.watched()? >= 200);
    assert_eq!(net.silence.counts()?.not_watched, 5000 - MAX_WATCHED as u64);
    Ok(())
}

#[test]
fn connections_that_end_leave_nothing() -> Result<()> {
    let net = Net::start()?;
    for _ in 0..10 {
        net.lab.host("client").run(|| pairs(100))?;
    }
    await_that("no subflow under watch", || Ok(net.silence.watched()?), |watched| *watched == 0)?;
    assert_eq!(net.silence.counts()?.not_watched, 0);
    Ok(())
}

#[test]
fn patience_puts_off_what_is_told() -> Result<()> {
    const PATIENCE: Duration = Duration::from_millis(700);
    let mut net = Net::start()?;
    let ifindex = net.ifindex("wifi0")?;
    net.silence.set_patience(ifindex, PATIENCE)?;
    let _traffic = net.traffic(Job::BulkUp, Options::duration(net::EVER))?;
    net.outage(WIFI)?;
    let [late, silent] = net.told_until(Kind::Silent)?[..] else { panic!("late, then silent") };
    assert!(late.silent >= PATIENCE && silent.silent > late.silent, "{late:?} {silent:?}");
    net.lab.link(WIFI).outage(Outage::None)?;
    assert_eq!(net.next()?.kind, Kind::Heard);
    net.silence.set_patience(ifindex, Duration::ZERO)?;
    net.silence.set_patience(ifindex, Duration::ZERO).context("none is taken back")?;
    // The next look was planned with patience.
    let before = net.silence.counts()?.looks;
    await_that("looks", || Ok(net.silence.counts()?.looks), |looks| *looks > before + 2)?;
    net.outage(WIFI)?;
    let alarms = net.told_until(Kind::Silent)?;
    assert!(alarms[0].silent < PATIENCE, "{alarms:?}");
    Ok(())
}

#[test]
fn what_is_older_than_the_program_is_watched_and_still_measured() -> Result<()> {
    let older = Unwatched::start()?;
    let traffic = older.traffic(Job::BulkUp, Options::duration(net::EVER))?;
    let mut net = older.watched()?;
    assert_eq!(net.silence.watched()?, 1);
    // The other object's program is called as before.
    let measured = |observer: &Observer| -> Result<u32> {
        Ok(observer.living()?.iter().map(|sample| sample.kept.rtt.buckets.iter().sum::<u32>()).sum())
    };
    let before = measured(&net.observer)?;
    await_that("round trips", || measured(&net.observer), |now| *now > before + 100)?;
    net.outage(WIFI)?;
    let alarms = net.told_until(Kind::Silent)?;
    assert_eq!(alarms.last().map(|alarm| alarm.local), traffic.local());
    Ok(())
}

fn messages() -> Options {
    Options {
        request: 500,
        response: 500,
        interval: Duration::from_millis(20),
        ..Options::duration(net::EVER)
    }
}
