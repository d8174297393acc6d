//! The dashboard in a real browser, against a pair.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::clients::{Browser, Load};
use tests::lab::{Config, DIRECT_VIPS, Lab, NAT_VIPS, Service};
use tests::pair::{DEFAULT, Pair};

const PAGE: &str = "http://127.0.0.1:9694/";
const DESK: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);

/// What the page says of itself, of a place in it, and of a row.
const LIVE: &str = "document.getElementById('link')?.dataset.state === 'live'";

fn says(place: &str, text: &str) -> String {
    let (place, text) = (serde_json::json!(place), serde_json::json!(text));
    format!("(document.querySelector({place})?.innerText ?? '').includes({text})")
}

/// Whether a row of a table that begins with a word has another one, too.
fn row_says(table: &str, first: &str, text: &str) -> String {
    let [table, first, text] =
        [format!("{table} tbody tr"), first.to_owned(), text.to_owned()].map(|word| serde_json::json!(word));
    format!(
        "[...document.querySelectorAll({table})].some((row) => row.cells[0].innerText === {first} && \
         row.innerText.includes({text}))"
    )
}

/// Whether the cell of a row in a column is what a test of its text `text` says.
fn cell(table: &str, first: &str, column: &str, is: &str) -> String {
    let [table, first, column] = [format!("{table} tbody tr"), first.to_owned(), column.to_owned()]
        .map(|word| serde_json::json!(word));
    format!(
        "[...document.querySelectorAll({table})].filter((row) => row.cells[0].innerText === {first})\
         .flatMap((row) => [...row.cells]).filter((cell) => cell.dataset.label === {column})\
         .map((cell) => cell.innerText).some((text) => {is})"
    )
}

/// Whether a graph's line has points of several heights: something passed, and was not always the same.
fn moves(graph: &str) -> String {
    format!(
        "new Set((document.querySelector({}).getAttribute('d').match(/ [0-9.]+/g) ?? [])).size > 1",
        serde_json::json!(graph)
    )
}

/// The page's ground, and the least contrast of its words with what they stand on (WCAG 2.2, 1.4.3 and its relative luminance).
const CONTRAST: &str = r"(() => {
    const parts = (color) => color.match(/[0-9.]+/g).map(Number);
    const light = (color) => {
        const [r, g, b] = parts(color).slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (node) => {
        const color = getComputedStyle(node).backgroundColor;
        return parts(color)[3] === 0 ? ground(node.parentElement) : color;
    };
    const contrast = (node) => {
        const [high, low] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    };
    const words = [...document.querySelectorAll('h1, h2, h3, p, th, td, li, figcaption span')];
    const seen = words.filter((node) => node.innerText && node.checkVisibility());
    return { ground: light(getComputedStyle(document.body).backgroundColor), least: Math.min(...seen.map(contrast)) };
})()";

/// A shop whose real servers are checked, forwarded by NAT so that answers are seen.
fn config(config: Config) -> Config {
    let shop = Service::tcp("shop", NAT_VIPS[0], 8080).nat().scheduler("wrr");
    let check = "{ type: http, request: /, interval: 200ms, timeout: 400ms, rise: 1, fall: 2 }";
    let shop = shop.set("check", check).real("192.0.2.21", 3).real("192.0.2.22", 2).real("192.0.2.23", 1);
    config.service(shop).line("http: { listen: \"127.0.0.1:9694\", hosts: [director.example.net] }")
}

fn browser(pair: &Pair, size: (u32, u32)) -> Result<Browser> {
    let lab = pair.lab();
    let mut browser = Browser::start(lab.host(&Pair::host(1)), &lab.directory().join("browser"), size)?;
    browser.visit(PAGE)?;
    browser.await_true("the first frame", LIVE)?;
    Ok(browser)
}

#[test]
fn the_page_shows_the_pair_and_its_services_and_follows_what_happens() -> Result<()> {
    let mut pair = Pair::start(2, |cluster| cluster, config)?;
    pair.await_owner(1, DEFAULT)?;
    http(pair.lab())?;
    let mut page = browser(&pair, DESK)?;

    page.await_true("the owner", &row_says("#groups", "default", "lb1"))?;
    page.await_true("the other director", &row_says("#peers", "lb2", "alive"))?;
    page.await_true("all services", "document.querySelectorAll('article.service').length === 9")?;
    let shop = "[data-service=shop]";
    page.await_true("a check's word", &row_says(shop, "192.0.2.23", "up for"))?;
    page.await_true("the weight", &cell(shop, "192.0.2.21", "Weight", "text === '3'"))?;
    page.await_true(
        "what the last check said",
        &cell(shop, "192.0.2.23", "Last check", "text === 'passed'"),
    )?;
    page.await_true("no problems", "document.getElementById('problems').hidden")?;
    let load = Load::new(&format!("http://{}:8080/", NAT_VIPS[0]), Duration::from_secs(2)).connections(4);
    load.run(pair.lab().client())?;
    page.await_true("a graph of traffic", &moves(&format!("{shop} figure:nth-child(1) path.out")))?;
    page.await_true("a graph of connections", &moves(&format!("{shop} figure:nth-child(2) path.in")))?;

    let cut = pair.lab().cut_cable("real3")?;
    page.await_true("the dead real server", &row_says(shop, "192.0.2.23", "down for"))?;
    let why = "/^no |unreachable|no route/i.test(text)";
    page.await_true("why", &cell(shop, "192.0.2.23", "Last check", why))?;
    page.await_true("its event", &says("#events", "shop 192.0.2.23"))?;
    cut.heal()?;
    page.await_true("it is back", &row_says(shop, "192.0.2.23", "up for"))?;

    pair.cli(1, &["handover"])?;
    page.await_true("the new owner", &row_says("#groups", "default", "lb2"))?;
    page.await_true("the new role", &row_says("#groups", "default", "standby"))?;

    looks(&mut page)?;
    ensure!(page.complaints().is_empty(), "{:?}", page.complaints());

    // The daemon goes and comes back, and the page with it.
    ensure!(pair.director(1).terminate()?.success(), "{}", pair.story());
    page.await_true("it is lost", &says("#link", "lost"))?;
    pair.director(1).run()?;
    page.await_true("it is live again", LIVE)?;
    ensure!(pair.director(2).terminate()?.success(), "{}", pair.story());
    page.await_true("the problem", &says("#problems", "the director lb2 is not heard"))?;
    page.await_true("how many there are", "document.title.startsWith('(1) lb1')")?;

    // Nothing is asked elsewhere, and no text becomes elements; and a complaint of it would have been noticed.
    let before = page.complaints().len();
    let foreign = "const image = new Image(); image.src = 'http://192.0.2.21/'; image.complete";
    page.evaluate(foreign)?;
    let inner = "try { document.body.innerHTML = '<p>'; false } catch { true }";
    ensure!(page.evaluate(inner)? == true, "text became elements");
    ensure!(page.complaints().len() >= before + 2, "{:?}", page.complaints());
    Ok(())
}

/// The page is readable on a phone and on a desk, light and dark.
fn looks(page: &mut Browser) -> Result<()> {
    // A row is a card on a phone: no head above the columns, so each cell says its own.
    let cards = "getComputedStyle(document.querySelector('[data-service=shop] tbody tr')).display === 'block' && \
                 getComputedStyle(document.querySelector('[data-service=shop] td[data-label=Weight]'), '::before')\
                 .content === '\"Weight\"'";
    for (size @ (width, height), is_card) in [(PHONE, true), (DESK, false)] {
        page.resize(width, height)?;
        // Not `innerWidth`: a phone makes that as wide as what is too wide.
        let fits = format!("document.documentElement.scrollWidth <= {width}");
        page.await_true("no horizontal scroll", &fits)?;
        page.await_true(&format!("cards or not at {size:?}"), &format!("({cards}) === {is_card}"))?;
    }
    for (scheme, is_light) in [("dark", false), ("light", true)] {
        page.prefer(scheme)?;
        let is_so = format!("(({CONTRAST}).ground > 0.5) === {is_light}");
        page.await_true(&format!("the scheme {scheme}"), &is_so)?;
        let least = page.evaluate(CONTRAST)?["least"].as_f64().context("no contrast")?;
        // WCAG's AA.
        ensure!(least >= 4.5, "{scheme}: a contrast of {least:.2}");
    }
    Ok(())
}

/// What the page is served with, and to whom.
fn http(lab: &Lab) -> Result<()> {
    let ask = |arguments: &[&str], path: &str| -> Result<String> {
        let url = format!("{PAGE}{path}");
        let words = [&["curl", "-sS", "-i"], arguments, &[&url]].concat();
        Ok(lab.host(&Pair::host(1)).run(&words)?.to_ascii_lowercase())
    };
    let page = ask(&[], "")?;
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        ensure!(page.contains(header), "{header}: {page}");
    }
    // A name that somebody else may have given this address.
    for path in ["", "api/live", "api/status", "metrics"] {
        let refused = ask(&["-m", "5", "-H", "Host: attacker.example:9694"], path)?;
        ensure!(refused.starts_with("http/1.1 421 ") && !refused.contains("192.0.2."), "{refused}");
    }
    ensure!(ask(&["-H", "Host: attacker.example"], "healthz")?.starts_with("http/1.1 200 "));
    ensure!(ask(&["-H", "Host: director.example.net"], "api/status")?.starts_with("http/1.1 200 "));
    ensure!(ask(&["-X", "POST"], "api/live")?.starts_with("http/1.1 405 "));
    Ok(())
}

/// Makes the guide's picture; `docs/guide/dashboard.md` has the command.
#[test]
#[ignore = "makes a picture for the guide, and tests nothing"]
fn picture() -> Result<()> {
    let lab = Lab::builder().directors(2).build()?;
    let _nginx = lab.nginx_everywhere()?;
    let web = Service::tcp("web", DIRECT_VIPS[0], 80).scheduler("mh");
    let check = "{ type: http, request: /, interval: 500ms, timeout: 400ms, rise: 2, fall: 2 }";
    let web = (21..=23).fold(web.set("check", check), |web, last| web.real(&format!("192.0.2.{last}"), 10));
    let config = config(Config::new().cluster(lab.cluster()?).service(web));
    let directors = lab.director_all(config)?;
    let size = (1160, 1);
    let mut page = Browser::start(lab.host(&Pair::host(1)), &lab.directory().join("browser"), size)?;
    page.visit(PAGE)?;
    page.await_true("the owner", &row_says("#groups", "default", "lb1"))?;
    page.await_true("a check's word", &row_says("[data-service=shop]", "192.0.2.23", "up for"))?;
    directors[0].cli_ok(&["drain", "shop", "192.0.2.22"])?;
    let load = |vip: &str, port: u16, seconds, connections| {
        Load::new(&format!("http://{vip}:{port}/"), Duration::from_secs(seconds)).connections(connections)
    };
    load(DIRECT_VIPS[0], 80, 25, 8).run(lab.client())?;
    let _shop = load(NAT_VIPS[0], 8080, 60, 3).start(lab.client())?;
    load(DIRECT_VIPS[0], 80, 10, 2).run(lab.client())?;
    let _web = load(DIRECT_VIPS[0], 80, 60, 24).start(lab.client())?;
    load(NAT_VIPS[0], 8080, 15, 2).run(lab.client())?;
    let _cut = lab.cut_cable("real3")?;
    page.await_true("the dead real server", &row_says("[data-service=web]", "192.0.2.23", "down for"))?;
    let tall = page.evaluate("document.documentElement.scrollHeight")?.as_u64().context("no height")?;
    page.resize(1160, u32::try_from(tall)?.min(1200))?;
    let picture = page.picture()?;
    ensure!(picture.len() < 200_000, "the picture has {} bytes", picture.len());
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide/dashboard.png"), picture)?;
    Ok(())
}
