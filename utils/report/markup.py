"""HTML and SVG, in which no text that comes from a file can become markup."""

from html import escape

VOID = ("img", "input", "meta")  # elements of HTML that have no end


class Markup(str):
    """Text that is markup already; any other text is escaped."""


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """An element; of attributes, `class_` is class and `text_anchor` text-anchor."""
    names = {key: key.rstrip("_").replace("_", "-") for key in attributes}
    listed = "".join(f' {names[k]}="{escape(str(v))}"' for k, v in attributes.items())
    inside = join(*content)
    return Markup(f"<{name}{listed}>" + ("" if name in VOID else f"{inside}</{name}>"))


def join(*parts: object) -> Markup:
    return Markup("".join(p if isinstance(p, Markup) else escape(str(p)) for p in parts))


def breakable(path: str) -> Markup:
    """A path that a line may end in after each slash."""
    return Markup(escape(path).replace("/", "/<wbr>"))


def section(title: str, *content: object, about: str = "") -> Markup:
    """A part of the page; `about` stands below its title."""
    below = tag("p", about, class_="about") if about else ""
    return tag("section", tag("h2", title), below, *content)


def table(caption: str, head: list[str], rows: list[list], **attributes: object) -> Markup:
    """The first cell of each row is its header."""
    columns = tag("tr", *(tag("th", name, scope="col") for name in head))
    lines = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in others))
        for first, *others in rows
    ]
    content = [tag("caption", caption)] if caption else []
    content += [tag("thead", columns)] if head else []
    content.append(tag("tbody", *lines))
    return tag("div", tag("table", *content, **attributes), class_="scroll")
