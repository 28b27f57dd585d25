from __future__ import annotations

import pytest

from include.gleaner.models import Document, NotContent
from include.gleaner.process.rules import REASONS
from tests.support.documents import read

LONG = (
    "<p>The pump stops when the pressure is above four bar for a minute, and starts again when it is below two.</p>" * 8
)
FORM = "<form><input name=user><input type=password><button>Sign in</button></form>"


@pytest.mark.parametrize(
    ("reason", "html"),
    [
        ("soft_404", "<title>Page not found - Brook</title><body><h1>Page not found</h1><p>Sorry. Try the search."),
        (
            "soft_404",
            "<title>Brook</title><body><h1>Oops! The page you are looking for could not be found.</h1><p>Home",
        ),
        ("soft_404", "<title>404 | Brook</title><body><p>There is nothing at this address."),
        ("soft_404", "<title>صفحه یافت نشد | بروک</title><body><h1>صفحه یافت نشد</h1><p>به صفحهٔ اول بروید."),
        ("soft_404", "<title>خطای ۴۰۴</title><body><p>نشانی را بررسی کنید."),
        ("error_page", "<title>502 Bad Gateway</title><body><center><h1>502 Bad Gateway</h1></center><hr>nginx"),
        ("error_page", "<title>Internal Server Error</title><body><p>The server had a problem."),
        ("error_page", "<title>Just a moment...</title><body><h1>Checking your browser before you go on</h1><p>Ray ID"),
        ("error_page", "<title>403 Forbidden</title><body><h1>Forbidden</h1><p>You have no permission for this."),
        ("error_page", "<title>Application error: a client-side exception has occurred</title><h2>Application error"),
        (
            "error_page",
            "<title>Maintenance</title><h1>Briefly unavailable for scheduled maintenance. Check back later.",
        ),
        ("error_page", "<title>Shop</title><h1>We&rsquo;ll be back soon!</h1><p>We are performing some maintenance."),
        ("error_page", "<title>Oops! Something went wrong</title><body><p>Incident 4711."),
        ("error_page", "<title>Welcome to nginx!</title><h1>Welcome to nginx!</h1><p>The web server is working."),
        ("error_page", "<title>Pardon Our Interruption</title><body><p>Something made us think you were a bot."),
        ("error_page", "<title>Account Suspended</title><body><p>Contact your hosting provider."),
        ("error_page", "<title>بروک</title><h1>سایت در حال به‌روزرسانی است</h1><p>به زودی برمی‌گردیم."),
        ("error_page", "<title>Brook</title><h1>Coming soon</h1><p>We are working on something great. Stay tuned!"),
        ("error_page", "<title>Our new website is coming soon!</title><body><p>Leave your address to hear first."),
        ("error_page", "<title>Services - Brook</title><h1>This page is under construction</h1><p>Check back later."),
        ("error_page", "<title>به زودی</title><h1>به زودی</h1><p>سایت ما در دست ساخت است."),
        ("error_page", "<title>Brook</title><h1>Seite im Aufbau</h1><p>Bald finden Sie hier mehr."),
        (
            "error_page",
            "<title>HTTP Status 500 – Internal Server Error</title><h1>HTTP Status 500 – Internal Server Error"
            "</h1><p>Exception Report<pre>java.lang.NullPointerException\n\tat a.b(C.java:1)</pre>",
        ),
        ("error_page", "<title>503 Backend fetch failed</title><h1>Error 503 Backend fetch failed</h1><p>XID: 1"),
        ("error_page", "<title>Runtime Error</title><h1>Server Error in '/' Application.</h1><p>An error occurred."),
        (
            "error_page",
            "<title>OperationalError at /shop/</title><h1>OperationalError at /shop/</h1><pre>no server</pre>"
            "<table><tr><th>Method<td>GET</table>",
        ),
        ("error_page", "<title>Request Rejected</title>The requested URL was rejected. Your support ID is: 1"),
        ("error_page", "<b>Fatal error</b>: Uncaught PDOException: refused in /var/www/db.php:12<br>Stack trace: #0"),
        ("error_page", "<body>Could not connect to the database server. Please try again later."),
        ("error_page", '<body><pre>{"error":"Internal Server Error","status":500}</pre>'),
        ("error_page", "<title>WordPress</title><p>There has been a critical error on this website.</p><p>Learn more."),
        ("error_page", "<body>The website encountered an unexpected error. Please try again later."),
        ("error_page", "<title>Oops, an error occurred!</title><h1>Oops, an error occurred!</h1><p>Code: 20260501"),
        ("error_page", "<title>Server Error</title><div>500</div><div>Server Error</div>"),
        ("error_page", "<title>Default Web Site Page</title><h1>SORRY!</h1><p>Contact your hosting provider."),
        ("error_page", "<title>brook.example</title><h1>brook.example</h1><p>This domain is for sale! Buy it now."),
        ("error_page", "<title>Security check</title><p>Please complete the security check to go on."),
        ("soft_404", "<title>Страница не найдена</title><h1>Страница не найдена</h1><p>Вернитесь на главную."),
        ("soft_404", "<title>案内</title><h1>ページが見つかりませんでした</h1><p>トップページへ戻る"),
        ("soft_404", "<title>页面不存在</title><h1>抱歉，您访问的页面不存在</h1><p>返回首页"),
        ("soft_404", "<title>Brook</title><h1>Pagina niet gevonden</h1><p>Ga naar de homepage."),
        ("soft_404", "<title>Nie znaleziono strony</title><h1>Strona nie została znaleziona</h1>"),
        ("error_page", "<title>Session expired</title><h1>Session expired</h1><p>Please log in again."),
        ("error_page", "<title>Brook</title><h1>Your browser is not supported</h1><p>Please take a newer one."),
        ("error_page", "<title>Wines</title><h1>Are you over 18?</h1><p>You must be of age.<button>Yes</button>"),
        ("js_shell", "<title>{{ title }}</title><h1>{{ title }}</h1><p>{{ product.text }}</p><script>1</script>"),
        ("soft_404", "<title>Product not found</title><h1>Product not found</h1><p>Continue shopping."),
        ("soft_404", "<title>Brook</title><h1>Sorry, this item is no longer available</h1><p>See others like it."),
        ("soft_404", "<title>Search results for xyz - Brook</title><h1>Search results for xyz</h1><p>Nothing matched."),
        ("soft_404", "<title>Search - Brook</title><h1>No results found</h1><p>Try other words."),
        ("soft_404", "<title>Brook</title><h1>این محصول یافت نشد</h1><p>به فروشگاه برگردید."),
        ("js_shell", "<title>App</title><body><app-root>Loading...</app-root><script src=a.js></script>"),
        ("consent_wall", "<title>Before you continue to Brook</title><body><form><p>We use cookies.</p><button>OK"),
        ("login_wall", f"<title>Sign in · Brook</title><body><h1>Sign in</h1><p>Members only.</p>{FORM}"),
        ("login_wall", f"<title>ورود به حساب کاربری</title><body><p>نام کاربری و رمز را بنویسید.</p>{FORM}"),
        ("js_shell", "<title>App</title><body><div id=root></div><script src=a.js></script>"),
        (
            "js_shell",
            "<title>App</title><body><noscript>You need to enable JavaScript to run this app.</noscript>"
            "<div id=x></div><script src=a.js></script>",
        ),
        (
            "directory_listing",
            "<title>Index of /files</title><h1>Index of /files</h1><pre><a href='../'>../</a> a.zip</pre>",
        ),
        ("empty", "<title>Brook</title><body><nav><a href=/>Home</a></nav>"),
    ],
)
def test_refused_with_its_reason(reason: str, html: str) -> None:
    assert read(html) == NotContent(reason=reason)
    assert reason in REASONS


@pytest.mark.parametrize(
    "html",
    [
        f"<title>What does 404 not found mean?</title><body><h1>What does 404 not found mean?</h1>{LONG}",
        f"<title>404</title><body><h1>404</h1>{LONG}",
        "<title>Error 502 on the pump</title><body><h1>Error 502 on the pump</h1><p>The display shows 502 when the "
        "sensor is not connected. Pull the plug, wait a minute, and connect it again.",
        "<title>Something went wrong</title><body><h1>Something went wrong</h1><p>The app shows this when the pump "
        "does not answer. Look whether its lamp is green. If it is red, take the plug out, wait for a minute, and put "
        "it back. If that does not help, bring the pump nearer to the router.",
        "<title>Maintenance</title><body><h1>Maintenance</h1><p>Clean the filter every month with warm water, and "
        "dry it well. Look at the seals in spring: brittle ones are changed. Before the first frost, empty the pipe.",
        "<title>Coming soon</title><body><h1>Coming soon</h1><p>Our shop in Berlin opens on the third of May at "
        "Torstraße 10. On the first day there is a pump for everybody who comes before noon, and ten percent off all "
        "filters until eight in the evening. Bring your old filter with you: it is worth five euros.",
        "<title>Product not found in the app</title><body><h1>Product not found in the app</h1><p>Scan its code again.",
        "<title>PHP errors</title><body><h1>PHP errors</h1><p>When the log says this, the password is wrong:</p>"
        "<pre>Fatal error: Uncaught PDOException in /var/www/db.php:12</pre>",
        "<title>Error codes</title><body><h1>Error 500 of the pump</h1><p>Clean the sensor and start it again.",
        "<title>Templates</title><body><h1>Templates</h1><p>Write {{ name }} where the name of the customer goes.",
        '<title>API</title><body><h1>API</h1><p>A refusal looks so:</p><pre>{"error":"forbidden"}</pre>',
        "<title>Warning: hot surface in summer</title><body><h1>Warning: hot surface</h1><p>Do not touch the pump.",
        "<title>Are you over 50?</title><body><h1>Are you over 50?</h1><p>Then our course on Monday is for you.",
        "<title>Maintenance</title><body><h1>Maintenance</h1><p>Once a year, from 99 euros on.",
        "<title>Events</title><body><h1>Events</h1><h2>Coming soon</h2><p>The fair of pumps begins in May.",
        "<title>Loading</title><body><h1>Loading</h1><p>Put the filter in from above.</p><script>1</script>",
        f"<title>Login</title><body><h1>Login</h1>{LONG}{FORM}",
        "<title>Login</title><body><h1>Login</h1><p>Press the button on the device, then type its code into the app.",
        f"<title>Cookie settings</title><body><h1>Cookie settings</h1>{LONG}{LONG}<form><button>Save</button></form>",
        "<title>Cookie settings</title><body><h1>Cookie settings</h1><p>Cookies are kept for a year.",
        "<title>App</title><body><div id=root><h1>Pump</h1>" + LONG + "</div><script src=a.js></script>",
        "<title>Contact</title><body><div id=main><p>Call 555 0100.</p></div><script src=a.js></script>",
        f"<title>Index of /terms</title><body><h1>Index of /terms</h1>{LONG}",
        "<title>Not found errors</title><body><h1>Not found errors</h1><pre>raise NotFound()</pre>",
        "<title>۴۰۴ روز در راه</title><body><h1>۴۰۴ روز در راه</h1>"
        + "<p>ما از شهر به شهر رفتیم و آب را دیدیم.</p>" * 12,
    ],
)
def test_pages_that_only_mention_it_are_content(html: str) -> None:
    assert isinstance(read(html), Document)


def test_a_shell_with_a_product_is_content() -> None:
    data = '{"@context": "https://schema.org", "@type": "Product", "name": "Drip 4"}'
    html = f'<title>App</title><script type="application/ld+json">{data}</script><div id=root></div><script src=a.js>'
    found = read(html)
    assert isinstance(found, Document)
    assert [fact.title for fact in found.facts] == ["Drip 4"]
