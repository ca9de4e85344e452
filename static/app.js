/* The theme is set before the first paint (this file is loaded in <head>, not deferred); everything else is delegated. */
(() => {
  "use strict";
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const THEMES = ["system", "light", "dark"];

  const storedTheme = () => {
    try {
      const value = localStorage.getItem("theme");
      return THEMES.includes(value) ? value : "system";
    } catch {
      return "system";
    }
  };

  const applyTheme = () => {
    const theme = storedTheme();
    const dark = theme === "dark" || (theme === "system" && prefersDark.matches);
    root.classList.toggle("dark", dark);
    root.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.setAttribute("aria-label", `Theme: ${theme}. Change`);
      button.title = `Theme: ${theme}`;
      for (const icon of button.querySelectorAll("[data-theme-icon]")) icon.hidden = icon.dataset.themeIcon !== theme;
      const label = button.querySelector("[data-theme-label]");
      if (label) label.textContent = theme[0].toUpperCase() + theme.slice(1);
    }
  };

  root.classList.add("js");
  applyTheme();
  prefersDark.addEventListener("change", applyTheme);
  addEventListener("storage", applyTheme);

  const toast = (category, title) => {
    const toaster = document.getElementById("toaster");
    toaster?.toast?.({ category, title, duration: category === "error" ? 8000 : 3000 });
  };

  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    if (!source) return;
    const text = source.value ?? source.textContent.trim();
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      if (!document.execCommand("copy")) {
        toast("error", "Copying is blocked. The text is selected: press Ctrl+C.");
        return;
      }
    }
    button.dataset.copied = "";
    announce("Copied");
    setTimeout(() => delete button.dataset.copied, 1800);
  };

  const announce = (text) => {
    const region = document.getElementById("announcer");
    if (region) region.textContent = text;
  };

  const closeMenus = (except) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (menu !== except) menu.open = false;
  };

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    closeMenus(target.closest("details.menu"));

    const themeButton = target.closest("[data-theme-toggle]");
    if (themeButton) {
      const next = THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length];
      try {
        localStorage.setItem("theme", next);
      } catch {
        toast("error", "This browser does not let us remember the theme.");
      }
      applyTheme();
    }
    const liveButton = target.closest("[data-live-toggle]");
    if (liveButton) {
      isPaused = !isPaused;
      liveButton.setAttribute("aria-pressed", String(!isPaused));
      if (!isPaused) refreshRows().catch(() => {});
    }
    const fold = target.closest("[data-fold-toggle]");
    if (fold) fold.setAttribute("aria-expanded", String(fold.form.toggleAttribute("data-unfolded")));
    const copyButton = target.closest("[data-copy]");
    if (copyButton) copy(copyButton);
    if (target.closest("[data-sidebar-toggle]")) document.getElementById("sidebar")?.toggle?.();
    const closer = target.closest("[data-close-dialog]");
    if (closer?.closest("dialog")) {
      event.preventDefault();
      closer.closest("dialog").close();
    }
    if (target instanceof HTMLDialogElement) target.close();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
      return;
    }
    const sidebar = document.getElementById("sidebar");
    if (sidebar && innerWidth < 768 && sidebar.getAttribute("aria-hidden") === "false") {
      sidebar.close();
      document.querySelector("[data-sidebar-toggle]")?.focus();
    }
  });

  /* A form is sent once: a second click does nothing until the page is shown again. */
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    // A download leaves the page as it is: the form is used again.
    if (event.submitter?.dataset.download !== undefined) return;
    if (form.dataset.sent !== undefined) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "";
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  /* A page in the background does not poll; an answer that is not the part asked for is never put into the page. */
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden && event.detail.ctx.sourceElement.id === "live") event.preventDefault();
  });
  document.addEventListener("htmx:before:response", (event) => {
    const { response, sourceElement } = event.detail.ctx;
    if (response.raw.redirected) {
      event.preventDefault();
      location.reload();
    } else if (response.status >= 400) {
      event.preventDefault();
      if (sourceElement.id !== "live") toast("error", `That did not work (${response.status}). Reload the page and try again.`);
    }
  });

  /* What arrives in the dialog that every console page has is shown as a modal; without a script the link is a page. */
  document.addEventListener("htmx:after:swap", () => {
    const modal = document.getElementById("modal");
    if (modal && !modal.open && modal.querySelector("[data-dialog-content]")) modal.showModal();
  });

  /* The newest rows of a list, unless the page has been filtered or left meanwhile. */
  let isPaused = false;
  const refreshRows = async () => {
    if (document.hidden || isPaused || !document.querySelector("[data-live-rows]")) return;
    const asked = location.href;
    const answer = await fetch(asked, { headers: { "HX-Request": "true" } });
    const text = await answer.text();
    const rows = document.querySelector("[data-live-rows]");
    if (!answer.ok || answer.redirected || location.href !== asked || !rows || document.querySelector(".htmx-request")) return;
    /* Its children only: a request of the filters that is under way still finds the element that it will fill. */
    const made = new DOMParser().parseFromString(text, "text/html").getElementById(rows.id);
    if (!made) return;
    const linkOf = (row) => row.querySelector(".row-link")?.href;
    const known = new Set([...rows.querySelectorAll("tbody tr")].map(linkOf));
    rows.setAttribute("aria-live", "off");
    rows.replaceChildren(...made.childNodes);
    globalThis.htmx?.process(rows);
    const fresh = [...rows.querySelectorAll("tbody tr")].filter((row) => !known.has(linkOf(row)));
    for (const row of fresh) row.dataset.fresh = "";
    if (fresh.length) announce(`${fresh.length} new ${fresh.length === 1 ? "request" : "requests"}`);
  };

  /* While a page of an organization is open, it hears over a WebSocket when there is something new to see. */
  const listen = (path, wait = 1000) => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + path);
    socket.addEventListener("open", () => { wait = 1000; });
    socket.addEventListener("message", () => {
      document.body.dispatchEvent(new Event("live"));
      refreshRows().catch(() => {});
    });
    socket.addEventListener("close", (event) => {
      if (event.code !== 4404) setTimeout(listen, wait * (0.5 + Math.random()), path, Math.min(wait * 2, 60000));
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    applyTheme();
    const live = document.querySelector("[data-live]");
    if (live) listen(live.dataset.live);
    document.getElementById("modal")?.addEventListener("close", () => {
      document.getElementById("modal-body").replaceChildren();
    });
    matchMedia("(min-width: 48rem)").addEventListener("change", (change) => {
      const sidebar = document.getElementById("sidebar");
      if (change.matches) sidebar?.open?.();
      else sidebar?.close?.();
    });
  });
})();
