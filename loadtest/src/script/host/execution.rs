//! Where in the test a script is, and what it can do about the test.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use rquickjs::prelude::Func;
use rquickjs::{Ctx, IntoJs, Object, Value};

use super::Outcome;
use crate::script::shared::{Instance, Signal};
use crate::script::vu::Vu;

enum Answer {
    Number(f64),
    Text(String),
}

impl<'js> IntoJs<'js> for Answer {
    fn into_js(self, ctx: &Ctx<'js>) -> rquickjs::Result<Value<'js>> {
        match self {
            Self::Number(number) => number.into_js(ctx),
            Self::Text(text) => text.into_js(ctx),
        }
    }
}

pub(super) fn install(host: &Object<'_>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    host.set(
        "execution",
        Func::from(move |what: String| Outcome(asked(&user, &what))),
    )?;
    let user = Rc::clone(vu);
    let options = move || {
        user.shared
            .settings
            .get()
            .map_or_else(|| "{}".to_owned(), |it| it.options.clone())
    };
    host.set("options", Func::from(options))?;
    let user = Rc::clone(vu);
    host.set("tag", Func::from(move |name: String| user.tags.of(&name)))?;
    let user = Rc::clone(vu);
    let set = move |name: String, value: Option<String>| {
        user.tags.set(name.clone(), value);
        for room in user.rooms.borrow().values() {
            room.set_tag(&name, user.tags.of(&name));
        }
    };
    host.set("setTag", Func::from(set))?;
    let user = Rc::clone(vu);
    let tags = move || serde_json::to_string(&user.tags.all()).unwrap_or_default();
    host.set("tags", Func::from(tags))?;
    let user = Rc::clone(vu);
    let abort = move |why: String| {
        let _ = user.shared.signals.send(Signal::Abort(why));
        // Nothing that the script does next is part of the test, and no `catch` holds it.
        user.limits.interrupted.store(true, Ordering::Relaxed);
    };
    host.set("abort", Func::from(abort))?;
    let user = Rc::clone(vu);
    let fail = move |why: String| {
        let _ = user.shared.signals.send(Signal::Fail(why));
    };
    host.set("failTest", Func::from(fail))
}

fn asked(vu: &Vu, what: &str) -> Result<Answer, String> {
    let (shared, iteration) = (&vu.shared, vu.iteration.get());
    if let Some(what) = what.strip_prefix("scenario.") {
        let context = vu.context.borrow();
        let Some(context) = context.as_ref() else {
            return Err(format!(
                "exec.scenario.{what} is known in the functions of scenarios only"
            ));
        };
        let since = shared.elapsed().saturating_sub(context.starts);
        return Ok(match what {
            "name" => Answer::Text(context.name.clone()),
            "executor" => Answer::Text(context.executor.to_owned()),
            "startTime" => {
                Answer::Number(millis_of(shared.elapsed().saturating_sub(since), shared))
            }
            "progress" => Answer::Number(
                (since.as_secs_f64() / context.length.as_secs_f64().max(0.001)).min(1.0),
            ),
            "iterationInInstance" => Answer::Number(iteration.of_scenario_here as f64),
            _ => Answer::Number(iteration.of_scenario as f64),
        });
    }
    Ok(Answer::Number(match what {
        "vu.idInInstance" => vu.id as f64,
        "vu.idInTest" => vu.id_in_test() as f64,
        "vu.iterationInInstance" => iteration.of_vu as f64,
        "vu.iterationInScenario" => iteration.of_vu_in_scenario as f64,
        "instance.currentTestRunDuration" => shared.elapsed().as_secs_f64() * 1_000.0,
        "instance.iterationsCompleted" => Instance::count(&shared.instance.completed),
        "instance.iterationsInterrupted" => Instance::count(&shared.instance.interrupted),
        "instance.vusActive" => Instance::count(&shared.instance.active),
        _ => shared.instance.initialized.load(Ordering::Relaxed) as f64,
    }))
}

/// A time of the test since the Unix epoch.
fn millis_of(at: std::time::Duration, shared: &crate::script::Shared) -> f64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // Whole ones, as scripts read the clock.
    (now.saturating_sub(shared.elapsed()) + at).as_millis() as f64
}
