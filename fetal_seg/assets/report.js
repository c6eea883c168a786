for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((th, i) => th.firstElementChild.addEventListener("click", () => {
    const sign = th.getAttribute("aria-sort") === "ascending" ? -1 : 1, num = th.classList.contains("num");
    const key = row => row.cells[i].dataset.v ?? row.cells[i].textContent;
    const compare = (a, b) => num ? (+a > +b) - (+a < +b) : a.localeCompare(b, "en", {numeric: true});
    const rows = [...body.rows].map(row => [key(row), row]);
    rows.sort(([a], [b]) => a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b));
    heads.forEach(h => h.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    body.append(...rows.map(r => r[1]));
  }));
}
const box = document.querySelector("dialog");
for (const button of document.querySelectorAll(".zoom")) button.addEventListener("click", () => {
  const img = button.querySelector("img").cloneNode(), close = document.createElement("button"), text = document.createElement("p");
  close.type = "button";
  close.textContent = "Close";
  text.textContent = button.parentElement.querySelector("figcaption").textContent;
  box.replaceChildren(img, close, text);
  box.showModal();
});
for (const button of document.querySelectorAll(".open")) button.addEventListener("click", () => document.getElementById(button.dataset.open).click());
box.addEventListener("click", () => box.close());
