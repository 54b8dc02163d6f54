//! The parts of Django that a real site uses, each over HTTP and through nginx, and each page by another worker.

use crate::state::postgresql;
use crate::support::http::{Browser, Page};
use crate::support::site::{PASSWORD, Site, Variant};
use crate::support::stores::Postgres;

/// A worker makes one page and leaves, so that nothing can be remembered from one to the next.
const POOL: &str = "pm = static\npm.max_children = 3\npm.max_requests = 1";

/// The entries of the guestbook in the admin.
const LIST: &str = "/admin/tour/entry/";

#[track_caller]
fn get(browser: &mut Browser, path: &str) -> String {
    let page = browser.get(path).expect("the site answers");
    assert_eq!(page.status, 200, "{path}: {}", page.body);
    page.body
}

/// Sends a form that is taken: the answer leads elsewhere.
#[track_caller]
fn send(browser: &mut Browser, path: &str, fields: &[(&str, &str)], to: &str) {
    let page = browser.post(path, fields).expect("the site answers");
    taken(&page, path, to);
}

#[track_caller]
fn taken(page: &Page, path: &str, to: &str) {
    let leads = page.header("location");
    assert_eq!(
        (page.status, leads),
        (302, Some(to)),
        "{path}: {}",
        page.body
    );
}

/// The number of the entry at the top of the admin's list.
#[track_caller]
fn newest(browser: &mut Browser) -> String {
    let list = get(browser, LIST);
    let (before, _) = list.split_once("/change/").expect("the list has an entry");
    let (_, number) = before.rsplit_once('/').expect("it is a link");
    number.to_owned()
}

#[test]
fn the_admin_adds_changes_and_deletes() {
    let site = Site::start(POOL);
    let mut browser = site.browser();
    let page = browser.get(LIST).expect("the site answers");
    taken(&page, LIST, "/admin/login/?next=/admin/tour/entry/");
    get(&mut browser, "/admin/login/");
    let demo = [("username", "demo"), ("password", PASSWORD)];
    let login = "/admin/login/?next=/admin/tour/entry/";
    send(&mut browser, login, &demo, LIST);

    let entry = [("name", "Ada"), ("text", "first"), ("attachment", "")];
    send(&mut browser, "/admin/tour/entry/add/", &entry, LIST);
    let list = get(&mut browser, LIST);
    assert!(list.contains("was added successfully"), "{list}");
    let list = get(&mut browser, LIST);
    assert!(
        !list.contains("was added successfully"),
        "told once: {list}"
    );
    let number = newest(&mut browser);

    let change = format!("{LIST}{number}/change/");
    assert!(get(&mut browser, &change).contains("first"));
    let entry = [("name", "Ada"), ("text", "größer"), ("attachment", "")];
    send(&mut browser, &change, &entry, LIST);
    assert!(get(&mut browser, "/guestbook/").contains("größer"));
    let wrong = browser.post(&change, &[("name", ""), ("text", "lost")]);
    let wrong = wrong.expect("the site answers");
    assert_eq!(wrong.status, 200);
    assert!(
        wrong.body.contains("This field is required."),
        "{}",
        wrong.body
    );
    assert!(get(&mut browser, "/guestbook/").contains("größer"));

    let delete = format!("{LIST}{number}/delete/");
    assert!(get(&mut browser, &delete).contains("Are you sure"));
    send(&mut browser, &delete, &[("post", "yes")], LIST);
    assert!(get(&mut browser, LIST).contains("was deleted successfully"));
    let shown = get(&mut browser, "/guestbook/");
    assert!(
        shown.contains("0 entries") && !shown.contains("größer"),
        "{shown}"
    );

    send(&mut browser, "/admin/logout/", &[], "/");
    let page = browser.get(LIST).expect("the site answers");
    taken(&page, LIST, login);
}

#[test]
fn files_are_uploaded_and_read_back() {
    let site = Site::vary(&Variant {
        // The larger one goes through a file, the smaller one through memory.
        settings: "FILE_UPLOAD_MAX_MEMORY_SIZE = 10_000\n",
        pool: POOL,
        ..Variant::default()
    });
    let mut browser = site.browser();
    get(&mut browser, "/guestbook/");
    let large: String = (0..40_000)
        .map(|number| format!("{number}\r\n\0ß"))
        .collect();
    for (name, content) in [("größe.txt", "small\0\r\n--\r\n"), ("large.bin", &large)] {
        let fields = [("name", "Ada"), ("text", name)];
        let page = browser
            .upload("/guestbook/", &fields, &[("attachment", name, content)])
            .expect("the site answers");
        taken(&page, name, "/guestbook/");
        let list = get(&mut browser, "/guestbook/");
        let (before, _) = list.split_once("\">Attachment<").expect("it is shown");
        let (_, path) = before.rsplit_once("href=\"").expect("it is a link");
        let file = browser.get(path).expect("the site answers");
        assert_eq!(file.status, 200);
        assert!(file.body == content, "{name} comes back as it was");
        let length = content.len().to_string();
        assert_eq!(file.header("content-length"), Some(&length[..]));
        let told = file.header("content-disposition").unwrap_or_default();
        assert!(told.starts_with("attachment; filename"), "{told}");
    }
    // Without its token, and for a file that nobody has sent.
    let forged = Browser::new(site.nginx.port).upload(
        "/guestbook/",
        &[("name", "Eve"), ("text", "forged")],
        &[("attachment", "evil", "evil")],
    );
    assert_eq!(forged.expect("the site answers").status, 403);
    let nobody = browser.get("/guestbook/999/attachment");
    assert_eq!(nobody.expect("the site answers").status, 404);
}

/// nginx serves them, and the site does not.
#[test]
fn static_files_are_there() {
    let site = Site::vary(&Variant {
        commands: &[&["collectstatic", "--noinput", "--verbosity=0"]],
        pool: POOL,
        ..Variant::default()
    });
    let mut browser = site.browser();
    let pages = [
        ("/", "/static/tour/tour.css"),
        ("/admin/login/", "/static/admin/css/base.css"),
    ];
    for (page, file) in pages {
        assert!(get(&mut browser, page).contains(file), "{page} has {file}");
        let style = browser.get(file).expect("nginx answers");
        assert_eq!(
            (style.status, style.header("content-type")),
            (200, Some("text/css"))
        );
        assert!(style.body.contains("color"), "{file}");
    }
    let none = browser.get("/static/tour/none.css").expect("nginx answers");
    assert_eq!(none.status, 404);
    assert!(none.body.contains("<center>nginx"), "{}", none.body);
}

/// In the session, that is; the admin's are in a cookie.
#[test]
fn messages_are_shown_once() {
    let site = Site::vary(&Variant {
        settings: "MESSAGE_STORAGE = 'django.contrib.messages.storage.session.SessionStorage'\n",
        pool: POOL,
        ..Variant::default()
    });
    let mut browser = site.browser();
    get(&mut browser, "/guestbook/");
    for text in ["one", "two"] {
        let fields = [("name", "Ada"), ("text", text)];
        send(&mut browser, "/guestbook/", &fields, "/guestbook/");
    }
    let told = |page: String| page.matches("Stored by worker").count();
    for (path, times) in [("/counter/", 2), ("/counter/", 0), ("/guestbook/", 0)] {
        assert_eq!(told(get(&mut browser, path)), times, "{path}");
    }
}

const TORN: &str = "
from django.db import transaction
from django.urls import path
from .models import Entry
from .urls import urlpatterns as site

def torn(request):
    Entry.objects.create(name='torn', text=request.path, worker=1)
    raise RuntimeError('in the middle')

@transaction.non_atomic_requests
def alone(request):
    torn(request)

urlpatterns = [*site, path('torn', torn), path('alone', alone)]
";

#[test]
fn transactions_are_all_or_nothing() {
    let postgres = Postgres::start();
    let site = Site::vary(&Variant {
        settings: &format!(
            "{}DATABASES['default']['ATOMIC_REQUESTS'] = True\nROOT_URLCONF = 'tour.torn'\n",
            postgresql(&postgres)
        ),
        modules: &[("torn", TORN)],
        pool: "pm = static\npm.max_children = 3",
        ..Variant::default()
    });
    let names = || {
        postgres.query("SELECT string_agg(name || ':' || text, ' ' ORDER BY id) FROM tour_entry")
    };
    let mut browser = site.browser();
    get(&mut browser, "/guestbook/");
    let several = |lines| [("lines", lines)];
    let path = "/guestbook/several/";
    send(
        &mut browser,
        path,
        &several("Ada: one\nBob: two"),
        "/guestbook/",
    );
    assert!(get(&mut browser, "/guestbook/").contains("Stored 2."));
    assert_eq!(names(), "Ada:one Bob:two");
    send(
        &mut browser,
        path,
        &several("Eve: three\nnonsense"),
        "/guestbook/",
    );
    assert!(get(&mut browser, "/guestbook/").contains("Nothing was stored: line 2"));
    assert_eq!(names(), "Ada:one Bob:two");

    // What the view has stored before it raises is gone, unless it asked for no transaction.
    let torn = browser.get("/torn").expect("the site answers");
    assert_eq!(torn.status, 500);
    assert_eq!(names(), "Ada:one Bob:two");
    let alone = browser.get("/alone").expect("the site answers");
    assert_eq!(alone.status, 500);
    assert_eq!(names(), "Ada:one Bob:two torn:/alone");
    // No worker is left in a transaction that has failed.
    for _ in 0..6 {
        get(&mut browser, "/guestbook/");
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'";
    assert_eq!(postgres.query(open), "0");
}
