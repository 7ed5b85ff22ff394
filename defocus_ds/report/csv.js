"use strict";
// review.csv: RFC 4180, UTF-8, one row for each pair with a decision or a note.
const csv = (() => {
  const HEADER = ["scene", "level", "decision", "note", "image_sha256"];
  const HEADERS = [HEADER, HEADER.slice(0, 4), HEADER.slice(0, 3)]; // a table by hand may have fewer

  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const format = (rows) => [HEADER, ...rows].map((row) => row.map(quoted).join(",") + "\r\n").join("");

  // Text -> [{line, cells}]; throws an Error that names the line.
  const parse = (text) => {
    const rows = [];
    let cells = [], cell = "", at = text.startsWith("\ufeff") ? 1 : 0, line = 1, from = 1;
    const endRow = () => {
      cells.push(cell);
      if (cells.length > 1 || cell !== "") rows.push({ line: from, cells });
      cells = [];
      cell = "";
      line += 1;
      from = line;
    };
    while (at < text.length) {
      const sign = text[at];
      if (sign === '"') {
        if (cell !== "") throw new Error(`line ${line}: a quotation mark inside a cell that is not quoted`);
        const start = line;
        for (;;) {
          at += 1;
          if (at >= text.length) throw new Error(`line ${start}: a quotation mark is never closed`);
          if (text[at] === '"' && text[at + 1] === '"') at += 1;
          else if (text[at] === '"') break;
          else if (text[at] === "\n") line += 1;
          cell += text[at];
        }
        at += 1;
        if (at < text.length && !",\r\n".includes(text[at])) {
          throw new Error(`line ${line}: text after a closing quotation mark`);
        }
      } else if (sign === ",") {
        cells.push(cell);
        cell = "";
        at += 1;
      } else if (sign === "\n" || sign === "\r") {
        at += sign === "\r" && text[at + 1] === "\n" ? 2 : 1;
        endRow();
      } else {
        cell += sign;
        at += 1;
      }
    }
    if (cell !== "" || cells.length) endRow();
    return rows;
  };

  // Rows of a review without its header; throws an Error when it is not one.
  const read = (text) => {
    const [head, ...rows] = parse(text);
    const found = head ? head.cells.join(",") : "";
    const header = HEADERS.find((names) => names.join(",") === found);
    if (!header) {
      throw new Error(`its first line is "${found.slice(0, 60)}", need "${HEADER.join(",")}"`);
    }
    const odd = rows.find((row) => row.cells.length !== header.length);
    if (odd) throw new Error(`line ${odd.line}: ${odd.cells.length} cells, need ${header.length}`);
    return rows;
  };

  return { format, read };
})();
