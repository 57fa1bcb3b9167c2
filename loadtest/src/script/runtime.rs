//! A virtual user's JavaScript: loaded once, called for every iteration.

use std::future::{Future, poll_fn};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;

use rquickjs::promise::MaybePromise;
use rquickjs::runtime::RejectionTracker;
use rquickjs::{
    AsyncContext, AsyncRuntime, CatchResultExt, CaughtError, Ctx, Exception, FromJs as _, Function,
    Module, Object, Promise, Value,
};
use tokio::time::timeout_at;

use super::loader::{GLOBALS, GLOBALS_NAME, Imports, is_ours};
use super::shared::{MEMORY_LIMIT, Shared};
use super::vu::{Limits, Vu};
use super::{chain, host};

const BLOCKED: &str =
    "the script ran for a second without waiting for anything, and everybody on its thread with it";

/// A top level has nothing to wait for but what it has begun itself: timers.
const LONGEST_LOADING: Duration = Duration::from_secs(10);

/// Under this name the script's exports are kept.
const EXPORTS: &str = "__exports";

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{0}")]
    File(String),
    /// With where it was thrown.
    #[error("{0}")]
    Thrown(String),
    #[error("no JavaScript runtime can be made: {0}")]
    Runtime(String),
}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("{0}")]
    Thrown(String),
    /// The iteration was to end.
    #[error("interrupted")]
    Interrupted,
    #[error("out of memory: the script of a virtual user may hold {} MiB", MEMORY_LIMIT >> 20)]
    OutOfMemory,
    #[error("the script exports no function '{0}'")]
    Missing(String),
}

/// The runtime and everything in it belongs to one thread.
pub struct Runtime {
    context: AsyncContext,
    vu: Rc<Vu>,
}

impl Runtime {
    /// Runs the script's top level.
    ///
    /// # Errors
    /// When it cannot be read, imports what does not exist, or throws.
    pub async fn load(
        shared: &Arc<Shared>,
        id: u64,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, LoadError> {
        let vu = Rc::new(Vu::new(Arc::clone(shared), id, interrupted));
        let made = |error: rquickjs::Error| LoadError::Runtime(error.to_string());
        let runtime = AsyncRuntime::new().map_err(made)?;
        runtime.set_memory_limit(MEMORY_LIMIT).await;
        let files = Arc::clone(&shared.files);
        runtime
            .set_loader(Imports(Arc::clone(&files)), Imports(Arc::clone(&files)))
            .await;
        let limits = Rc::clone(&vu.limits);
        runtime
            .set_interrupt_handler(Some(Box::new(move || limits.is_over())))
            .await;
        let user = Rc::downgrade(&vu);
        let track: RejectionTracker = Box::new(move |_ctx, promise, reason, is_handled| {
            if let Some(user) = user.upgrade() {
                note_rejection(&user, &promise, reason, is_handled);
            }
        });
        runtime
            .set_host_promise_rejection_tracker(Some(track))
            .await;
        let context = AsyncContext::full(&runtime).await.map_err(made)?;
        let name = files.entry().to_owned();
        let source = files
            .text(&name)
            .map_err(|error| LoadError::File(chain(&error)))?;
        let user = Rc::clone(&vu);
        let loading = context.async_with(async |ctx| {
            let loaded = load(&ctx, &user, &name, source).await;
            loaded
                .catch(&ctx)
                .map_err(|error| thrown(&error, &user.limits))
        });
        watched(&vu.limits, loading)
            .await
            .map_err(|error| LoadError::Thrown(error.to_string()))?;
        vu.is_loading.set(false);
        Ok(Self { context, vu })
    }

    pub(crate) fn vu(&self) -> &Rc<Vu> {
        &self.vu
    }

    /// The script's `options`, as JSON.
    ///
    /// # Errors
    /// When they are no JSON.
    pub async fn options(&self) -> Result<Option<serde_json::Value>, LoadError> {
        let limits = Rc::clone(&self.vu.limits);
        let text = self
            .context
            .async_with(async |ctx| {
                let text = options(&ctx).catch(&ctx);
                text.map_err(|error| thrown(&error, &limits))
            })
            .await
            .map_err(|error| LoadError::Thrown(error.to_string()))?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|error| {
            LoadError::Thrown(format!("the script's options are no JSON: {error}"))
        })
    }

    /// Whether the script exports a function of this name.
    pub async fn has(&self, function: &str) -> bool {
        let function = function.to_owned();
        self.context
            .async_with(async |ctx| {
                exports(&ctx)
                    .and_then(|it| it.get::<_, Value<'_>>(function))
                    .is_ok_and(|it| it.is_function())
            })
            .await
    }

    /// Calls an exported function with JSON and waits until it is done and nothing that it began is
    /// left. Answers JSON; none for `undefined`.
    ///
    /// # Errors
    /// When it throws, or is stopped.
    pub async fn call(
        &self,
        function: &str,
        argument: Option<&str>,
    ) -> Result<Option<String>, CallError> {
        let (vu, name) = (Rc::clone(&self.vu), function.to_owned());
        let argument = argument.map(str::to_owned);
        let call = self.context.async_with(async |ctx| {
            let result = call(&ctx, &vu, &name, argument).await;
            match result.catch(&ctx) {
                Ok(answer) => answer,
                Err(error) => Err(thrown(&error, &vu.limits)),
            }
        });
        let mut call = pin!(watched(&self.vu.limits, call));
        let limits = &self.vu.limits;
        poll_fn(|context| {
            let polled = call.as_mut().poll(context);
            // What is stopped in a timer is thrown nowhere.
            if matches!(polled, Poll::Ready(Ok(_))) && limits.blocked.replace(false) {
                return Poll::Ready(Err(CallError::Thrown(BLOCKED.to_owned())));
            }
            let unhandled = std::mem::take(&mut *self.vu.unhandled.borrow_mut());
            match (polled, unhandled.into_values().next()) {
                (Poll::Ready(Ok(_)) | Poll::Pending, Some(error)) => Poll::Ready(Err(error)),
                (polled, _) => polled,
            }
        })
        .await
    }

    /// Nothing that the script began goes on.
    pub fn is_idle(&self) -> bool {
        self.vu.busy.is_idle()
    }

    /// Bytes that the script holds.
    pub async fn memory(&self) -> u64 {
        let usage = self.context.runtime().memory_usage().await;
        u64::try_from(usage.malloc_size).unwrap_or(0)
    }
}

async fn load<'js>(
    ctx: &Ctx<'js>,
    vu: &Rc<Vu>,
    name: &str,
    source: String,
) -> rquickjs::Result<()> {
    let globals = ctx.globals();
    host::install(ctx, vu)?;
    Module::evaluate(ctx.clone(), GLOBALS_NAME, GLOBALS)?
        .into_future::<()>()
        .await?;
    let (module, loaded) = Module::declare(ctx.clone(), name, source)?.eval()?;
    settled(ctx, vu, &loaded).await?;
    globals.set(EXPORTS, module.namespace()?)?;
    // Only for our own modules, and they have it now.
    globals.remove(host::NAME)
}

/// Waits for the top level. What nobody settles would be waited for for ever.
async fn settled<'js>(ctx: &Ctx<'js>, vu: &Vu, loaded: &Promise<'js>) -> rquickjs::Result<()> {
    let deadline = tokio::time::Instant::now() + LONGEST_LOADING;
    // As in `call`: what was begun in the last turn is seen in the next.
    let mut was_idle = false;
    loop {
        while ctx.execute_pending_job() {
            was_idle = false;
        }
        if let Some(settled) = loaded.result::<()>() {
            return settled;
        }
        if !vu.busy.is_idle() {
            was_idle = false;
            if timeout_at(deadline, vu.busy.changed()).await.is_err() {
                let text =
                    format!("the top level of the script was not done within {LONGEST_LOADING:?}");
                return Err(Exception::throw_message(ctx, &text));
            }
        } else if was_idle {
            let text = "the top level of the script waits for something that nobody settles";
            return Err(Exception::throw_message(ctx, text));
        } else {
            was_idle = true;
            tokio::task::yield_now().await;
        }
    }
}

fn exports<'js>(ctx: &Ctx<'js>) -> rquickjs::Result<Object<'js>> {
    ctx.globals().get(EXPORTS)
}

fn options(ctx: &Ctx<'_>) -> rquickjs::Result<Option<String>> {
    let options: Value<'_> = exports(ctx)?.get("options")?;
    let text = ctx.json_stringify(options)?;
    text.map(|text| text.to_string()).transpose()
}

async fn call<'js>(
    ctx: &Ctx<'js>,
    vu: &Rc<Vu>,
    name: &str,
    argument: Option<String>,
) -> rquickjs::Result<Result<Option<String>, CallError>> {
    let function: Value<'js> = exports(ctx)?.get(name)?;
    let Some(function) = function.into_function() else {
        return Ok(Err(CallError::Missing(name.to_owned())));
    };
    ctx.globals().set("__ITER", vu.iteration.get().of_vu)?;
    set_environment(ctx, vu)?;
    let argument = match argument {
        Some(json) => ctx.json_parse(json)?,
        None => Value::new_undefined(ctx.clone()),
    };
    let answer: MaybePromise<'js> = Function::call(&function, (argument,))?;
    let answer: Value<'js> = answer.into_future().await?;
    // What was asked of us in the last turn begins when we are polled again: only who is idle both
    // before and after is done.
    let mut was_idle = false;
    loop {
        while ctx.execute_pending_job() {
            was_idle = false;
        }
        if !vu.busy.is_idle() {
            was_idle = false;
            vu.busy.changed().await;
        } else if was_idle {
            break;
        } else {
            was_idle = true;
            tokio::task::yield_now().await;
        }
    }
    let text = ctx.json_stringify(answer)?;
    Ok(Ok(text.map(|text| text.to_string()).transpose()?))
}

/// The scenario's variables are seen beside the test's.
fn set_environment(ctx: &Ctx<'_>, vu: &Vu) -> rquickjs::Result<()> {
    let context = vu.context.borrow();
    let own = context.as_ref().map(|it| &it.environment);
    let own = own.filter(|it| !it.is_empty());
    // Those of the scenario that it was in before are not seen in this one.
    if !vu.has_own_environment.replace(own.is_some()) && own.is_none() {
        return Ok(());
    }
    let environment = Object::new(ctx.clone())?;
    for (name, value) in vu
        .shared
        .environment
        .iter()
        .chain(own.into_iter().flatten())
    {
        environment.set(name, value)?;
    }
    ctx.globals().set("__ENV", environment)
}

/// Every poll is a turn in which the script may run, and no longer than it may.
async fn watched<T>(limits: &Limits, running: impl Future<Output = T>) -> T {
    let mut running = pin!(running);
    poll_fn(|context| {
        limits.begin_turn();
        running.as_mut().poll(context)
    })
    .await
}

/// What was thrown and where, without the places that are ours.
fn thrown(error: &CaughtError<'_>, limits: &Limits) -> CallError {
    if limits
        .interrupted
        .load(std::sync::atomic::Ordering::Relaxed)
    {
        return CallError::Interrupted;
    }
    let text = match error {
        CaughtError::Exception(exception) => {
            let name: Option<String> = exception.as_object().get("name").ok();
            let name = name.unwrap_or_else(|| "Error".to_owned());
            let message = exception.message().unwrap_or_default();
            if name == "InternalError" && message == "out of memory" {
                return CallError::OutOfMemory;
            }
            let stack = exception.stack().unwrap_or_default();
            let mut text = format!("{name}: {message}");
            for line in stack
                .lines()
                .filter(|line| !place(line).is_some_and(is_ours))
            {
                text.push_str("\n\t");
                text.push_str(line.trim());
            }
            text
        }
        // There was no room for an error.
        CaughtError::Value(value) if value.is_null() => return CallError::OutOfMemory,
        CaughtError::Error(rquickjs::Error::Allocation) => return CallError::OutOfMemory,
        CaughtError::Value(value) => {
            let shown = value.as_string().and_then(|it| it.to_string().ok());
            format!("Uncaught {}", shown.unwrap_or_else(|| format!("{value:?}")))
        }
        CaughtError::Error(error) => error.to_string(),
    };
    if limits.blocked.replace(false) {
        return CallError::Thrown(format!("{BLOCKED}: {text}"));
    }
    CallError::Thrown(text)
}

/// Kept until the turn is over: until then somebody may still wait for it.
fn note_rejection<'js>(vu: &Vu, promise: &Value<'js>, reason: Value<'js>, is_handled: bool) {
    // By its identity: it lives as long as the turn, or nobody can handle it any more.
    let mut hasher = DefaultHasher::new();
    promise.hash(&mut hasher);
    let key = hasher.finish();
    if is_handled {
        vu.unhandled.borrow_mut().remove(&key);
        return;
    }
    let error = match Exception::from_js(promise.ctx(), reason.clone()) {
        Ok(exception) => CaughtError::Exception(exception),
        Err(_) => CaughtError::Value(reason),
    };
    let error = match thrown(&error, &vu.limits) {
        CallError::Thrown(text) => CallError::Thrown(format!("nobody handled this: {text}")),
        other => other,
    };
    vu.unhandled.borrow_mut().insert(key, error);
}

/// The module in a line such as `at viewer (script.js:3:13)`.
fn place(line: &str) -> Option<&str> {
    let within = line.rsplit_once('(').map_or(line, |(_, it)| it);
    let within = within
        .trim()
        .trim_end_matches(')')
        .trim_start_matches("at ");
    let (without_column, _) = within.rsplit_once(':')?;
    without_column.rsplit_once(':').map(|(name, _)| name)
}
