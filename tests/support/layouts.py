"""Page layouts as websites have them, in Persian, around a CONTENT: what is in them and not in it is no content."""

from __future__ import annotations

from typing import Final

_LINKS = "".join(
    f'<li class="item-{number}"><a href="/page-{number}">{text}</a></li>'
    for number, text in enumerate(
        ("خانه", "راهنما", "آموزش", "مرجع API", "نمونه‌ها", "انجمن", "وبلاگ", "درباره‌ی ما", "تماس با ما"), 1
    )
)
_TEASERS = "".join(
    f'<div class="card"><a href="/post-{number}"><h4>نوشته‌ی شماره‌ی {number} درباره‌ی باغبانی</h4></a>'
    f"<p>در این نوشته می‌خوانید که چگونه گیاهان را آب بدهید و کی برگ‌های خشک را بچینید…</p></div>"
    for number in range(1, 5)
)
_HEAD = '<meta charset="utf-8"><title>راهنمای توسعه | نمونه</title>'

SEMANTIC: Final = f"""<!doctype html><html lang="fa" dir="rtl"><head>{_HEAD}</head><body>
<header><a href="/">نمونه</a><nav aria-label="اصلی"><ul>{_LINKS}</ul></nav></header>
<div class="cookie-banner" role="dialog"><p>ما از کوکی‌ها برای بهبود تجربه‌ی شما استفاده می‌کنیم.</p><button>می‌پذیرم</button></div>
<main><article>CONTENT</article></main>
<aside><h3>مطالب مرتبط</h3>{_TEASERS}</aside>
<footer><ul>{_LINKS}</ul><p>© ۱۴۰۵ نمونه. همه‌ی حقوق محفوظ است.</p></footer></body></html>"""

# As generators of documentation write it: three columns, an outline of the page, links to the next page.
DOCUMENTATION: Final = f"""<!doctype html><html lang="fa-IR" dir="rtl"><head>{_HEAD}</head><body><div id="app"><div class="Layout">
<header class="VPNav"><div class="VPNavBar"><div class="title"><a href="/">نمونه</a></div><nav class="VPNavBarMenu">
<a href="/guide">راهنما</a><a href="/api">مرجع</a><a href="/blog">وبلاگ</a></nav></div></header>
<div class="VPLocalNav"><button>فهرست</button></div>
<aside class="VPSidebar"><nav class="nav"><h2>شروع کار</h2><ul>{_LINKS}</ul><h2>مفاهیم</h2><ul>{_LINKS}</ul></nav></aside>
<div class="VPContent has-sidebar"><div class="VPDoc"><div class="container"><div class="aside"><div class="VPDocAside">
<div class="outline-title">در این صفحه</div><ul class="outline">{_LINKS}</ul></div></div>
<div class="content"><div class="content-container"><main class="main"><div class="vt-doc">CONTENT</div></main>
<footer class="VPDocFooter"><div class="edit-info"><a href="/edit">این صفحه را در گیت‌هاب ویرایش کنید</a></div>
<nav class="prev-next"><a class="pager-link" href="/a"><span class="desc">صفحه‌ی قبل</span><span class="title">آغاز</span></a>
<a class="pager-link" href="/b"><span class="desc">صفحه‌ی بعد</span><span class="title">ادامه</span></a></nav></footer>
</div></div></div></div></div></div></div></body></html>"""

# As a weblog writes it: widgets beside the text, shares, related posts and comments below.
WEBLOG: Final = f"""<!doctype html><html lang="fa" dir="rtl"><head>{_HEAD}</head><body class="single single-post rtl">
<div id="page" class="site"><div id="masthead" class="site-header"><div class="site-branding"><a href="/">نمونه</a>
<p class="site-description">یادداشت‌هایی درباره‌ی برنامه‌نویسی</p></div><div class="main-navigation"><ul class="menu">{_LINKS}</ul></div></div>
<div class="breadcrumbs"><a href="/">خانه</a> » <a href="/guide">راهنما</a></div>
<div id="content" class="site-content"><div id="primary" class="content-area"><div class="post hentry">
<div class="entry-content">CONTENT</div>
<div class="sharedaddy"><h3>به اشتراک بگذارید:</h3><ul><li><a href="/t">توییتر</a></li><li><a href="/f">فیس‌بوک</a></li></ul></div>
</div><div class="related-posts"><h3>شاید این‌ها را هم بپسندید</h3>{_TEASERS}</div>
</div><div id="secondary" class="widget-area"><div class="widget"><h3>تازه‌ترین نوشته‌ها</h3><ul>{_LINKS}</ul></div>
<div class="widget"><h3>خبرنامه</h3><p>هر هفته تازه‌ترین نوشته‌ها را در ایمیل خود بخوانید.</p><form><input><button>عضویت</button></form></div></div></div>
<div id="colophon" class="site-footer"><div class="site-info">© ۱۴۰۵ همه‌ی حقوق محفوظ است</div></div></div></body></html>"""

# As it was written before there were names for anything: a table lays out the page.
TABLES: Final = f"""<html><head>{_HEAD}</head><body dir="rtl" bgcolor="#ffffff"><table width="100%" cellpadding="4"><tr>
<td colspan="2"><font size="5"><b>نمونه</b></font><br><a href="/">خانه</a> | <a href="/g">راهنما</a> | <a href="/c">تماس</a></td></tr>
<tr><td width="160" valign="top"><ul>{_LINKS}</ul></td><td valign="top">CONTENT</td></tr>
<tr><td colspan="2" align="center"><small>© ۱۴۰۵ همه‌ی حقوق محفوظ است - <a href="/terms">شرایط استفاده</a></small></td></tr>
</table></body></html>"""

LAYOUTS: Final = {"semantic": SEMANTIC, "documentation": DOCUMENTATION, "weblog": WEBLOG, "tables": TABLES}
