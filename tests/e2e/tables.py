"""Tables of what a test run measured: printed at its end, and written as Markdown to target/NAME.md."""

from pathlib import Path

TARGET = Path(__file__).resolve().parents[2] / "target"
_tables = {}


class Table:
    """Rows of text under a title; the first row added stands first."""

    def __init__(self, name, title, *columns):
        self.name, self.title, self.columns, self.rows = name, title, columns, []
        _tables[name] = self

    def add(self, *cells):
        assert len(cells) == len(self.columns)
        self.rows.append([str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells])

    def markdown(self):
        rule = ["---"] * len(self.columns)
        lines = ["| " + " | ".join(row) + " |" for row in [self.columns, rule, *self.rows]]
        return "\n".join([f"# {self.title}", "", *lines, ""])

    def text(self):
        rows = [list(self.columns), *self.rows]
        widths = [max(len(row[at]) for row in rows) for at in range(len(self.columns))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def finish(write_line):
    """Prints and writes every table that has rows."""
    for table in _tables.values():
        if table.rows:
            TARGET.mkdir(exist_ok=True)
            (TARGET / f"{table.name}.md").write_text(table.markdown(), encoding="utf-8")
            write_line(f"\n{table.title} (target/{table.name}.md)\n{table.text()}\n")
