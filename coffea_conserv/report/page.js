"use strict";
(() => {
  const number = (cell) => {
    const raw = cell.dataset.value ?? cell.textContent;
    if (raw === "inf") return Infinity;
    if (raw === "nan") return NaN;
    return raw.trim() === "" ? NaN : Number(raw);
  };
  const compare = (one, two) => {
    const a = number(one), b = number(two);
    if (!Number.isNaN(a) && !Number.isNaN(b)) return a === b ? 0 : a < b ? -1 : 1;
    if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) ? 1 : -1;
    return one.textContent.localeCompare(two.textContent, "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, two) => compare(one.cells[column], two.cells[column]) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    }));
  }
  const dialog = document.getElementById("zoom"), large = dialog.querySelector("img");
  for (const button of document.querySelectorAll(".zoom")) {
    button.addEventListener("click", () => {
      const image = button.querySelector("img");
      large.src = image.src;
      large.alt = image.alt;
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.getElementById("download").addEventListener("click", () => {
    const text = document.getElementById("values").textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "conserv.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
