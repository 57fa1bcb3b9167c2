use super::*;

const EVERY: Duration = Duration::from_millis(500);

fn ms(since: u64) -> Duration {
    Duration::from_millis(since)
}

/// What this process reads of a node and when, in milliseconds.
struct Node<'a> {
    reports: &'a [u64],
    /// Of its sessions' streams.
    events: &'a [u64],
    /// From then on nobody takes a connection.
    is_gone_from: Option<u64>,
}

impl Node<'_> {
    /// When its sessions are given up, in the ten seconds after its last report; it answers no question.
    fn is_given_up(&self) -> Option<u64> {
        let began = Instant::now();
        let mut silence = Silence::new(began);
        let signs = Signs::new(began);
        let (mut now, mut limit, mut reports) = (0, REPORT_LIMIT, self.reports.iter().peekable());
        let mut events = self.events.iter().peekable();
        let last = self.reports.last().unwrap();
        while now < last + 10_000 {
            let deadline = now + u64::try_from(limit.as_millis()).unwrap();
            if let Some(at) = reports.next_if(|at| **at <= deadline) {
                now = *at;
                limit = silence.handle_report(Some(EVERY), began + ms(now));
                continue;
            }
            let broken = self.is_gone_from.filter(|gone| *gone <= deadline);
            let why = broken.map_or(Why::Late, |_| Why::Gone);
            now = broken.map_or(deadline, |gone| gone.max(now));
            while let Some(at) = events.next_if(|at| **at <= now) {
                signs.note(began + ms(*at));
            }
            limit = match silence.handle_end(why, signs.last(), began + ms(now)) {
                Next::Ask(limit) => limit,
                Next::Retry(limit) => {
                    now += 100;
                    limit
                }
                Next::GiveUp(_) => return Some(now),
            };
            silence.handle_asked(began + ms(now));
        }
        None
    }
}

/// It reports until four seconds have passed.
fn reports() -> Vec<u64> {
    (0..=4_000).step_by(500).collect()
}

#[test]
fn a_node_that_falls_silent_is_asked_and_given_up() {
    let given_up = |events: &[u64]| {
        let node = Node {
            reports: &reports(),
            events,
            is_gone_from: None,
        };
        node.is_given_up()
    };
    // Three reports that do not come, and no answer.
    assert_eq!(given_up(&[]), Some(4_000 + 1_500 + 400));
    // What it said before it fell silent, half a second after its last report at the latest, changes nothing.
    assert_eq!(given_up(&[100, 3_900, 4_100, 4_500]), Some(5_900));
}

#[test]
fn a_node_whose_streams_speak_is_only_read_late() {
    let speaks: Vec<u64> = (0..=9_000).step_by(900).collect();
    let node = Node {
        reports: &reports(),
        events: &speaks,
        is_gone_from: None,
    };
    // As soon as it says nothing else either: by then its last word is as good as a report.
    let given_up = node.is_given_up().unwrap();
    assert!(
        (9_000..=9_000 + 1_500 + 1_500).contains(&given_up),
        "{given_up}"
    );

    // One word is enough for the time in which three reports should come.
    for sign in [4_501, 5_400, 5_501, 5_900] {
        let node = Node {
            reports: &reports(),
            events: &[sign],
            is_gone_from: None,
        };
        assert_eq!(node.is_given_up(), Some(5_900 + 1_500), "{sign}");
    }
    // Reports that are read late are reports.
    let mut late = reports();
    late.push(5_890);
    let node = Node {
        reports: &late,
        events: &[],
        is_gone_from: None,
    };
    assert_eq!(node.is_given_up(), Some(5_890 + 1_500 + 100 + 400));
}

#[test]
fn a_node_whose_process_is_gone_is_given_up_at_once() {
    let node = Node {
        reports: &reports(),
        events: &[4_190, 4_200],
        is_gone_from: Some(4_200),
    };
    assert_eq!(node.is_given_up(), Some(4_200));
}

/// As when this process was stopped for some time: that its connection broke meanwhile it finds out by asking.
#[test]
fn a_question_that_meets_a_broken_connection_is_asked_anew() {
    let began = Instant::now();
    // How the first question ends and when, and what comes of that.
    let ends = |why: Why, after: u64| {
        let mut silence = Silence::new(began);
        silence.handle_report(Some(EVERY), began);
        let mut now = began + ms(4_000);
        let next = silence.handle_end(Why::Late, None, now);
        assert_eq!(next, Next::Ask(ASK_LIMIT));
        silence.handle_asked(now);
        now += ms(after);
        let next = silence.handle_end(why, None, now);
        silence.handle_asked(now);
        (silence, now, next)
    };
    let (mut silence, now, next) = ends(Why::Broken, 1);
    assert_eq!(next, Next::Ask(ASK_ANEW_LIMIT));
    // Once.
    let next = silence.handle_end(Why::Broken, None, now + ms(1));
    assert_eq!(next, Next::GiveUp(REPORT_LIMIT));

    let (mut silence, now, _) = ends(Why::Broken, 1);
    silence.handle_report(Some(EVERY), now);
    let next = silence.handle_end(Why::Broken, None, now + ms(3_000));
    assert_eq!(next, Next::Ask(ASK_ANEW_LIMIT), "it reports");

    for (why, after) in [(Why::Broken, 400), (Why::Late, 400), (Why::Gone, 1)] {
        let (_, _, next) = ends(why, after);
        assert_eq!(next, Next::GiveUp(REPORT_LIMIT), "{why:?}");
    }
}

#[test]
fn a_node_says_how_often_it_reports() {
    let mut silence = Silence::new(Instant::now());
    let mut limit = |every| silence.handle_report(every, Instant::now());
    assert_eq!(limit(None), REPORT_LIMIT);
    assert_eq!(limit(Some(EVERY)), ms(1_500));
}

#[test]
fn a_sign_is_the_last_one() {
    let began = Instant::now();
    let signs = Signs::new(began);
    assert_eq!(signs.last(), None);
    signs.note(began + ms(7));
    signs.note(began + ms(1_900));
    assert_eq!(signs.last(), Some(began + ms(1_900)));
}
