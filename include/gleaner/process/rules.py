"""Pages that hold nothing worth storing: ordered rules, each with its reason. All of them spare real content."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from include.gleaner.process.tree import Node

REASONS: Final = (
    "not_html",  # given by decode: a PDF, an image, a feed, ...
    "directory_listing",
    "soft_404",
    "error_page",
    "consent_wall",
    "login_wall",
    "js_shell",
    "empty",
)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rules may look at."""

    page: Node
    titles: tuple[str, ...]  # window title and first heading, as far as there are any
    text: str  # the content found
    words: int
    has_structure: bool  # code, tables or definitions: nobody writes those on an error page
    has_facts: bool  # structured data worth storing


_SHORT: Final = 80  # words; nothing longer is refused for its title
_WALL: Final = 120
_BRIEF: Final = 30

_NOT_FOUND: Final = re.compile(
    r"""(?:error\s*)?404\b.{0,60}
    | (?:oops\W{0,5})? (?:sorry\W{0,3})? (?:error\W{0,3})? (?:the\ |this\ |that\ )? (?:requested\ )? (?:page|url|content|file)
      (?:\ you\b.{0,50}?)? \ (?:(?:was|is|were|could|can)?\ ?(?:not|n[’']t)\ ?(?:be\ )?found|cannot\ be\ found|does\ ?n[o’']t\ exist|does\ not\ exist|not\ found) .{0,60}
    | (?:http\ )?(?:404\W{0,3})?not\ found
    | nothing\ (?:was\ )?found(?:\ here)?\W*
    | (?:خطای\ ?)?(?:404|۴۰۴)\b.{0,60}
    | (?:متأ?سفانه\W*)?(?:این\ )?(?:صفحه|برگه).{0,40}(?:یافت|پیدا)\ ?(?:نشد|نمی.?شود).{0,30}
    | (?:این\ )?(?:صفحه|برگه).{0,30}وجود\ ندارد.{0,30}
    | (?:عذر[اً]+\W*)?(?:هذه\ )?(?:ال)?صفحة\ (?:غير\ موجودة|لم\ يتم\ العثور).{0,30}
    | (?:die\ )?seite\ (?:wurde\ )?nicht\ gefunden.{0,30} | page\ (?:introuvable|non\ trouvée).{0,30}
    | página\ n(?:o|ão)\ encontrada.{0,30} | pagina\ non\ trovata.{0,30} | sayfa\ bulunamadı.{0,30}
    | (?:запрашиваемая\ )?страница\ не\ (?:найдена|существует).{0,30} | (?:de\ )?pagina\ (?:is\ )?niet\ gevonden.{0,30}
    | nie\ znaleziono\ strony.{0,30} | strona\ nie\ (?:została\ znaleziona|istnieje).{0,30}
    | sidan\ (?:hittades\ inte|kunde\ inte\ hittas).{0,30} | siden\ (?:blev\ ikke\ fundet|findes\ ikke).{0,30}
    | (?:お探しの|ご指定の)?ページ(?:が|は)(?:見つかりません|存在しません).{0,20} | 페이지를\ 찾을\ 수\ 없습니다.{0,10}
    | .{0,10}(?:页面|頁面|网页|網頁)(?:不存在|未找到|找不到|無法找到|无法找到).{0,10} | .{0,6}(?:找不到|未找到)(?:页面|頁面|网页|網頁).{0,10}""",
    re.I | re.X,
)
_ERROR: Final = re.compile(
    r"""(?:error\W{0,3}|http\ )?(?:400|401|403|405|410|429|500|502|503|504|520|521|522|524)\b\W*(?:error|bad|unauthori|forbidden|method|gone|too|internal|service|gateway|server|access|web|connection|unknown|a\ timeout|$).{0,60}
    | (?:500\W+)?internal\ server\ error.{0,30} | bad\ gateway.{0,30} | service\ (?:temporarily\ )?unavailable.{0,30} | gateway\ time-?out.{0,30}
    | (?:509\W+)?bandwidth\ limit\ exceeded | server\ error\ \(500\) | whitelabel\ error\ page
    | application\ error:\ a\ (?:client|server)-side\ exception.{0,100}
    | we[’']re\ sorry\W{1,3}but\ something\ went\ wrong.{0,20} | briefly\ unavailable\ for\ scheduled\ maintenance.{0,40}
    | pardon\ our\ interruption | access\ to\ this\ page\ has\ been\ denied | human\ verification
    | please\ verify\ you\ are\ (?:a\ )?human
    | welcome\ to\ nginx | apache2?\ (?:\w+\ )?default\ page.{0,30} | .{0,60}\bdomain\ (?:name\ )?is\ for\ sale.{0,30}
    | error\ establishing\ a\ database\ connection.{0,30} | (?:403\W+)?(?:forbidden|access\ (?:is\ )?denied).{0,30}
    | (?:attention\ required!?|just\ a\ moment\W*|checking\ your\ browser.*|verify(?:ing)?\ (?:that\ )?you\ are\ (?:a\ )?human.*|are\ you\ a\ (?:robot|human).*)(?:\W+cloudflare)?
    | (?:site|website)\ (?:is\ )?(?:under\ maintenance|temporarily\ unavailable).{0,30}
    | خطای\ (?:داخلی\ )?(?:سرور|500|۵۰۰).{0,40}""",
    re.I | re.X,
)
# What may be the title of a help page as well: only where there is hardly anything else.
_OUTAGE: Final = re.compile(
    r"""application\ error | (?:an?\ )?(?:unexpected|unknown|internal)\ error(?:\ (?:has\ )?occurr?ed)?
    | (?:oops\W{0,3})?something\ went\ wrong | (?:this\ (?:page|site)\ is\ )?temporarily\ unavailable | too\ many\ requests
    | (?:scheduled|(?:site|website)\ (?:is\ )?(?:under|down\ for)|under)\ maintenance | maintenance\ mode
    | server\ error | (?:oops\W{0,3})?an\ error\ (?:has\ )?occurr?ed | (?:security|bot)\ check | (?:domain\ )?default\ (?:web\ site\ )?page
    | (?:your\ )?session\ (?:has\ )?(?:expired|timed\ out)
    | (?:your\ |this\ )?(?:web\ )?browser\ (?:is\ )?(?:not\ supported|no\ longer\ supported|out\ of\ date|outdated) | unsupported\ browser
    | (?:please\ )?(?:update|upgrade)\ your\ browser | are\ you\ (?:(?:over|at\ least|older\ than)\ (?:1[68]|21)\b.{0,20}|of\ legal.{1,40}) | age\ (?:verification|check)
    | (?:please\ )?(?:verify|confirm)\ your\ age | we(?:[’']ll|\ will)\ be\ (?:right\ )?back(?:\ (?:soon|shortly|online\ soon))? | account\ suspended
    | (?:our\ |the\ |a\ )?(?:new\ )?(?:web\ ?site|site|page|shop|store)?(?:\ is\ |\ )?(?:coming|launching|opening)\ (?:very\ )?soon
    | (?:(?:our|the|this)\ )?(?:new\ )?(?:web\ ?site|site|page|shop)?(?:\ is\ |\ )?(?:currently\ )?under\ construction
    | (?:be\ )?launching\ soon | (?:in\ k[üu]rze|demnächst)(?:\ (?:hier|verfügbar))? | (?:seite\ )?im\ aufbau | bientôt\ disponible
    | (?:site\ )?en\ construction | próximamente | (?:sitio\ |página\ )?en\ construcción | em\ breve | prossimamente | yakında
    | (?:به.?زودی|بزودی)(?:\ (?:برمی.?گردیم|افتتاح\ می.?شود))? | (?:سایت\ )?در\ دست\ (?:ساخت|احداث|طراحی) | قريب[اً]{1,2}
    | (?:وب.?)?سایت\ (?:موقتا\S?\ )?(?:در\ حال\ (?:تعمیر|به.?روز.?رسانی)|در\ دست\ تعمیر).{0,20}""",
    re.I | re.X,
)
# Of one thing that is not there any more, where the rest of the site is.
_NO_SUCH: Final = re.compile(
    r"""(?:sorry\W{0,3})?(?:the\ |this\ |that\ |your\ )?(?:requested\ )?(?:product|article|item|post|entry|listing|event|offer|document|record|job|profile|user|category)
      \ (?:(?:was|is|could|can)?\ ?(?:not|n[’']t)\ ?(?:be\ )?found|(?:is\ )?no\ longer\ available|does\ not\ exist|does\ ?n[o’']t\ exist|has\ (?:been\ removed|expired))
    | (?:produkt|artikel|beitrag)\ (?:wurde\ )?nicht\ (?:mehr\ )?(?:gefunden|verfügbar) | (?:produit|article)\ (?:introuvable|non\ trouvé)
    | (?:producto|artículo)\ no\ encontrado | no\ (?:search\ )?results?(?:\ (?:were\ )?found)? | search\ results?(?:\ for.{0,80})?
    | (?:این\ )?(?:محصول|کالا|مطلب|نوشته).{0,20}(?:یافت|پیدا|موجود)\ ?(?:نشد|نیست)""",
    re.I | re.X,
)
# How servers and frameworks begin when they break down, in a title or in the text; what they add to it may be code.
_BROKEN_TITLE: Final = re.compile(
    r"""http\ status\ [45]\d\d\b.* | error\ 5\d\d\ (?:backend|internal|bad|service|gateway|origin|server)\b.* | 50[0-4]\ (?:backend|gateway|proxy|origin).* | server\ error\ in\ .{1,60}\ application
    | (?:\w+\.)*\w+(?:error|exception)\ at\ /\S* | request\ rejected | action\ controller:\ exception\ caught
    | whoops,?\ looks\ like\ something\ went\ wrong.*""",
    re.I | re.X,
)
_BROKEN_TEXT: Final = re.compile(
    r"""\W*(?:php\ )?(?:fatal\ error|parse\ error|warning|notice|deprecated):\ .{1,400}?\bin\ \S+\.(?:php|inc|phtml)\b
    | \W*(?:uncaught\ )?(?:exception|\w*exception:|sqlstate\[) | traceback\ \(most\ recent\ call\ last\)
    | (?:error:?\ )?(?:could\ not|cannot|can[’']t|unable\ to|failed\ to)\ connect\ to\ (?:the\ |local\ )?(?:\w+\ )?(?:database|mysql|server)\b
    | (?:there\ has\ been\ a\ critical|the\ website\ encountered\ an\ unexpected)\ error | error\ displaying\ the\ error\ page
    | looks\ like\ this\ domain\ is(?:n[’']t|\ not)\ connected | .{0,60}\bdomain\ (?:name\ )?(?:is|may\ be)\ for\ sale
    | (?:please\ )?complete\ the\ security\ check | the\ requested\ url\ was\ rejected | request\ unsuccessful\.\ incapsula
    | \{\s*"[^{}]{0,200}\b(?:error|exception|forbidden|unauthorized|not\ found)\b[^{}]{0,300}\}\W*$""",
    re.I | re.X,
)
_UNFILLED: Final = re.compile(r"\{\{.{1,200}?\}\}|\{%.{1,200}?%\}")
_LOADING: Final = re.compile(
    r"\W*(?:loading|please\ wait|wird\ geladen|chargement|cargando|در\ حال\ بارگذاری)\W*(?:please\ wait\W*)?",
    re.I | re.X,
)
_CONSENT: Final = re.compile(
    r"""before\ you\ continue.{0,60} | (?:we\ value\ )?your\ privacy(?:\ choices|\ matters.*)? | (?:cookie|privacy)\ (?:consent|preferences|settings|notice)
    | we\ (?:use|value)\ (?:cookies|your\ privacy).{0,60} | (?:manage\ )?cookie\ consent.{0,30} | datenschutz-?einstellungen""",
    re.I | re.X,
)
_LOGIN: Final = re.compile(
    r"""(?:please\ )?(?:log|sign)[\ -]?(?:in|on)\b.{0,60} | login\b.{0,40} | (?:members?|customers?)\ (?:area|login|only).{0,30} | authentication\ required.{0,30}
    | ورود(?:\ (?:به|کاربران|اعضا).{0,40})? | anmelden | connexion | iniciar\ sesión | giriş\ yap | تسجيل\ الدخول.{0,30}""",
    re.I | re.X,
)
_NEEDS_SCRIPT: Final = re.compile(
    r"(?:enable|requires?|turn on|need)\b.{0,40}\bjava\s?script|javascript\b.{0,40}\b(?:disabled|required)|جاوا\s?اسکریپت",
    re.I,
)
_ROOTS: Final = ("root", "app", "__next", "__nuxt", "___gatsby", "svelte", "ember-app", "main-app", "application")
_INDEX_OF: Final = re.compile(r"(?:index of|directory listing (?:for|of)) ?/.*", re.I)
_UPWARDS: Final = re.compile(r"\s*(?:parent directory|\.\./?|\[to parent directory\]|name)\s*", re.I)
_SITE_NAME: Final = re.compile(r"\s+[|–—·»-]\s+|\s*[|»·—]\s*")


def refusal(evidence: Evidence) -> str | None:
    """The reason why the page is no content, the first rule's that applies; None when it is content."""
    return next((reason for reason, applies in _RULES if applies(evidence)), None)


def _titled(evidence: Evidence, pattern: re.Pattern[str], words: int) -> bool:
    """Whether title or heading says so, whole or without the site's name, and there is little else."""
    if evidence.words > words or evidence.has_structure or evidence.has_facts:
        return False
    names = [part.strip(" .!?…:") for title in evidence.titles for part in (title, *_SITE_NAME.split(title))]
    return any(pattern.fullmatch(name) for name in names if name)


def _is_broken(evidence: Evidence) -> bool:
    if evidence.words > _WALL or evidence.has_facts:
        return False
    return any(_BROKEN_TITLE.fullmatch(title.strip(" .!?")) for title in evidence.titles) or (
        evidence.words <= _SHORT and _BROKEN_TEXT.match(evidence.text) is not None
    )


def _is_directory(evidence: Evidence) -> bool:
    # The listing itself is no prose: the server's title and its link upwards tell.
    return any(_INDEX_OF.fullmatch(title) for title in evidence.titles) and any(
        (tag.name == "a" and _UPWARDS.fullmatch(_beginning(tag)))
        or (tag.name == "title" and "directory listing" in tag.text().lower())
        for tag in evidence.page.elements()
    )


def _beginning(tag: Node) -> str:
    """The text of a short element; of a long one what it begins with, since links may stand in links."""
    return "".join(item for item in islice(tag.descendants(), 50) if isinstance(item, str))


def _is_login(evidence: Evidence) -> bool:
    return _titled(evidence, _LOGIN, _SHORT) and any(
        tag.name == "input" and tag.attrs.get("type", "").lower() == "password" for tag in evidence.page.elements()
    )


def _is_consent(evidence: Evidence) -> bool:
    return _titled(evidence, _CONSENT, _WALL) and any(
        tag.name in ("form", "button") for tag in evidence.page.elements()
    )


def _is_shell(evidence: Evidence) -> bool:
    if evidence.words > 25 or evidence.has_facts:
        return False
    if (unfilled := _UNFILLED.sub("", evidence.text)) != evidence.text and not re.search(r"\w", unfilled):
        return True  # a template whose values scripts were to fill in
    tags = list(evidence.page.elements())
    if not any(tag.name == "script" for tag in tags):
        return False
    if _LOADING.fullmatch(evidence.text):
        return True
    notes = [tag for tag in tags if tag.name == "noscript"][:20]
    if any(_NEEDS_SCRIPT.search(tag.text()) for tag in notes) or _NEEDS_SCRIPT.search(evidence.text):
        return True
    root = next((tag for tag in tags if tag.attrs.get("id") in _ROOTS), None)
    return root is not None and len(root.text(" ").split()) <= 5


_RULES: Final[tuple[tuple[str, Callable[[Evidence], bool]], ...]] = (
    ("directory_listing", _is_directory),
    ("soft_404", lambda evidence: _titled(evidence, _NOT_FOUND, _SHORT) or _titled(evidence, _NO_SUCH, _BRIEF)),
    ("error_page", _is_broken),
    ("error_page", lambda evidence: _titled(evidence, _ERROR, _SHORT) or _titled(evidence, _OUTAGE, _BRIEF)),
    ("consent_wall", _is_consent),
    ("login_wall", _is_login),
    ("js_shell", _is_shell),
    ("empty", lambda evidence: evidence.words == 0 and not evidence.has_facts),
)
