//! `director top`. What it shows and what keys do is in [`state`], pure; how it looks is in [`draw`]; here are the terminal, the
//! socket and the threads that wait for them.

mod draw;
mod state;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc as tasks;
use tokio::time::MissedTickBehavior;

use self::state::{Effect, Input, Screen};
use super::{FAILURE, Failed, Outcome, SocketArg};
use crate::api::client::{self, Client};
use crate::api::types::{self, Event as News, Status, Weighed, WeightRequest};

/// How often the director is asked.
const EVERY: Duration = Duration::from_secs(1);
/// After so long it counts as gone, though it might answer still.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watch services and real servers live, and drain or enable them.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director top
  director top --socket /run/director/lb2.sock

Keys: arrows, Page Up, Page Down, Home and End choose a row; < and > choose the column to sort by, and r turns the order
round; d drains the real server that is chosen, e enables it, after a confirmation; q quits.")]
pub(super) struct Top {
    #[command(flatten)]
    socket: SocketArg,
}

impl Top {
    pub(super) fn execute(self) -> Outcome {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            let message = "`director top` needs a terminal\n  help: `director status` prints the same once";
            return Err(Failed { code: FAILURE, message: message.to_owned() });
        }
        // A panic gives the terminal back, too.
        let mut terminal = ratatui::try_init()?;
        let shown = show(&mut terminal, self.socket.client());
        ratatui::try_restore()?;
        shown
    }
}

/// Shows what comes until it is enough.
fn show(terminal: &mut DefaultTerminal, client: Client) -> Outcome {
    let (inputs, coming) = mpsc::channel();
    let (asks, asked) = tasks::unbounded_channel();
    let keys = inputs.clone();
    thread::spawn(move || read_keys(&keys));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let follower = thread::spawn(move || runtime.block_on(follow(client, asked, inputs)));
    let mut screen = Screen::default();
    loop {
        terminal.draw(|frame| draw::draw(frame, &mut screen))?;
        let input = match coming.recv_timeout(EVERY) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) if !follower.is_finished() => continue,
            Err(_) => {
                let message = "the thread that asks the director ended".to_owned();
                return Err(Failed { code: FAILURE, message });
            }
        };
        match screen.take(input) {
            Some(Effect::Quit) => return Ok(()),
            // If nobody takes it, the thread is gone, and that is found out above.
            Some(Effect::Weigh(request)) => drop(asks.send(request)),
            None => {}
        }
    }
}

/// Passes on what is typed.
fn read_keys(inputs: &mpsc::Sender<Input>) {
    loop {
        let input = match event::read() {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Input::Key(key),
            Ok(Event::Resize(..)) => Input::Resized,
            Ok(_) => continue,
            // The terminal is gone.
            Err(_) => Input::Ended,
        };
        let ended = matches!(input, Input::Ended);
        if inputs.send(input).is_err() || ended {
            return;
        }
    }
}

/// How far the events of a director are known: its process, and the number of the last one.
#[derive(Default)]
struct Known {
    pid: u32,
    last: u64,
}

impl Known {
    /// How the director is, and what has happened there since.
    async fn look(&mut self, client: &Client) -> Result<(Status, Vec<News>), client::Error> {
        let status: Status = client.get(types::STATUS).await?;
        if self.pid != status.pid {
            *self = Known { pid: status.pid, last: 0 };
        }
        let news: Vec<News> = client.get(&format!("{}?after={}", types::EVENTS, self.last)).await?;
        self.last = news.last().map_or(self.last, |event| event.id);
        Ok((status, news))
    }
}

/// Asks the director each second, and for what is to be done, until nobody wants to know any more.
async fn follow(
    client: Client,
    mut asked: tasks::UnboundedReceiver<WeightRequest>,
    inputs: mpsc::Sender<Input>,
) {
    let (Ok(mut terminate), Ok(mut hang_up)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return;
    };
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = Known::default();
    loop {
        let input = tokio::select! {
            _ = terminate.recv() => Input::Ended,
            _ = hang_up.recv() => Input::Ended,
            request = asked.recv() => match request {
                Some(request) => {
                    let weighed = client.post::<Weighed>(types::WEIGHT, &request).await;
                    // What came of it is to be seen at once.
                    tick.reset_immediately();
                    Input::Weighed(weighed.map_err(|error| error.to_string()))
                }
                None => return,
            },
            _ = tick.tick() => match tokio::time::timeout(PATIENCE, known.look(&client)).await {
                Ok(Ok((status, news))) => {
                    if inputs.send(Input::Status(Box::new(status))).is_err() {
                        return;
                    }
                    Input::Events(news)
                }
                Ok(Err(error)) => Input::Gone(error.to_string()),
                Err(_) => Input::Gone(format!("no answer within {} s", PATIENCE.as_secs())),
            },
        };
        if inputs.send(input).is_err() {
            return;
        }
    }
}
