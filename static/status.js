// Keeps the status page live: fetches the board again whenever the server says that it has changed.
(() => {
  const board = () => document.querySelector("[data-status-board]");
  if (!board()) return;

  const refresh = async () => {
    const answer = await fetch(board().dataset.source, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const made = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-status-board]");
    if (made) board().replaceWith(made);
  };
  const quietly = () => refresh().catch(() => {});

  let timer = null;
  const poll = () => { timer ??= setInterval(quietly, 30000); };
  if (!("EventSource" in window)) { poll(); return; }
  const source = new EventSource(board().dataset.events);
  source.addEventListener("changed", quietly);
  source.addEventListener("open", () => { clearInterval(timer); timer = null; });
  source.addEventListener("error", poll);
})();
