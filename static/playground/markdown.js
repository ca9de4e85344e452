// Markdown from a model, which nobody may trust: no HTML of its own, no pictures from elsewhere, only tags of this list.
(() => {
  "use strict";
  if (!globalThis.marked || !globalThis.DOMPurify) return;
  const TAGS = ["a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input", "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"];
  const ATTRIBUTES = ["href", "title", "class", "start", "align", "type", "checked", "disabled"];
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
  const reader = new marked.Marked({
    gfm: true,
    breaks: true,
    renderer: {
      html: ({ text }) => escaped(text),
      image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || "Picture")}</a>`,
    },
  });
  const purifier = DOMPurify(window);
  purifier.addHook("afterSanitizeAttributes", (node) => {
    if (node.tagName === "A") {
      node.setAttribute("target", "_blank");
      node.setAttribute("rel", "noopener noreferrer nofollow");
    }
    if (node.tagName === "INPUT" && node.getAttribute("type") !== "checkbox") node.remove();
  });

  const copyButton = (source) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn";
    button.dataset.variant = "ghost";
    button.dataset.size = "sm";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1800);
    });
    return button;
  };
  /* A block of code gets a head with its language and a button that copies it. */
  const framed = (pre) => {
    const code = pre.querySelector("code") ?? pre;
    const frame = document.createElement("div");
    frame.className = "code";
    const head = document.createElement("header");
    const language = document.createElement("span");
    language.textContent = /language-([\w+#-]+)/.exec(code.className)?.[1] ?? "text";
    head.append(language, copyButton(code));
    pre.replaceWith(frame);
    pre.tabIndex = 0;
    frame.append(head, pre);
  };

  /* Put `text` into `element` as it reads; nothing in it is run, loaded or sent. */
  const show = (element, text) => {
    const made = purifier.sanitize(reader.parse(text), {
      ALLOWED_TAGS: TAGS,
      ALLOWED_ATTR: ATTRIBUTES,
      ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
      ALLOW_DATA_ATTR: false,
      ALLOW_ARIA_ATTR: false,
      RETURN_DOM_FRAGMENT: true,
    });
    for (const pre of made.querySelectorAll("pre")) framed(pre);
    for (const table of made.querySelectorAll("table")) {
      const frame = document.createElement("div");
      frame.className = "table-frame";
      frame.tabIndex = 0;
      table.replaceWith(frame);
      frame.append(table);
    }
    element.replaceChildren(made);
  };

  globalThis.Markdown = Object.freeze({ show });
})();
