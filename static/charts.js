/* Draws each figure[data-chart] from its own table: columns are series, rows are bars, a row's link is where it leads. */
(() => {
  "use strict";
  const HEIGHT = 224;
  const drawn = new Map();

  const read = (figure) => {
    const table = figure.querySelector("table");
    const rows = [...table.tBodies[0].rows];
    const heads = [...table.tHead.rows[0].cells].slice(1);
    return {
      labels: rows.map((row) => row.cells[0].textContent.trim()),
      links: rows.map((row) => row.cells[0].querySelector("a")?.href ?? ""),
      series: heads.map((head, number) => ({
        label: head.textContent.trim(),
        ...head.dataset,
        values: rows.map((row) => {
          const value = row.cells[number + 1].dataset.value;
          return value === "" ? null : Number(value);
        }),
        texts: rows.map((row) => row.cells[number + 1].textContent.trim()),
      })),
    };
  };

  /* Bars lie on each other: each is drawn as high as all up to it, the highest first. */
  const stacked = (series) => {
    const sums = [];
    let below = null;
    for (const one of series) {
      below = one.values.map((value, at) => (value ?? 0) + (below ? below[at] : 0));
      sums.push({ ...one, heights: below });
    }
    return sums;
  };

  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const shortTime = (ms) => (ms >= 1000 ? `${short.format(ms / 1000)} s` : `${short.format(ms)} ms`);

  const tooltip = (data, bars) => {
    const tip = document.createElement("div");
    tip.className = "tip";
    const fill = (at) => {
      const title = document.createElement("strong");
      title.textContent = data.labels[at];
      tip.replaceChildren(title);
      for (const one of data.series) {
        if (data.series.length > 3 && !one.values[at]) continue;
        const line = document.createElement("span");
        const swatch = document.createElement("i");
        swatch.dataset.color = one.color;
        swatch.dataset.kind = one.kind;
        const text = document.createElement("b");
        text.textContent = one.texts[at];
        line.append(swatch, one.label, text);
        tip.append(line);
      }
    };
    let shown = -1;
    return {
      hooks: {
        init: (plot) => plot.over.append(tip),
        setCursor: (plot) => {
          const { idx, left } = plot.cursor;
          const visible = idx !== null && idx !== undefined && left >= 0;
          tip.toggleAttribute("data-shown", visible);
          if (!visible) return;
          if (idx !== shown) fill(idx);
          shown = idx;
          const room = plot.over.clientWidth - tip.offsetWidth;
          const wanted = plot.valToPos(idx, "x") + 12;
          tip.style.left = `${Math.max(0, wanted > room ? wanted - tip.offsetWidth - 24 : wanted)}px`;
        },
        ready: (plot) => {
          plot.over.addEventListener("click", () => {
            const at = plot.cursor.idx;
            const link = data.links[at];
            if (!link) return;
            const height = plot.posToVal(plot.cursor.top, "y");
            const hit = bars.length > 1 ? bars.find((one) => one.heights[at] >= height && one.values[at]) : bars[0];
            location.assign(hit?.query ? `${link}&${hit.query}` : link);
          });
        },
      },
    };
  };

  const draw = (figure) => {
    const frame = figure.querySelector(".plot");
    if (!frame || !frame.clientWidth) return;
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const data = read(figure);
    const bars = stacked(data.series.filter((one) => one.kind === "bar"));
    const lines = data.series.filter((one) => one.kind === "line");
    const plotted = [...[...bars].reverse().map((one) => [one, one.heights]), ...lines.map((one) => [one, one.values])];
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const { unit } = figure.dataset;
    const text = (value) => {
      if (unit === "ms") return shortTime(value);
      if (unit) return unit === "usd" ? `$${short.format(value)}` : short.format(value);
      return Number.isInteger(value) ? short.format(value) : "";
    };
    const axis = { font, stroke: color("--muted-foreground"), ticks: { show: false } };
    const isSlanted = "slanted" in figure.dataset;
    const scaleOf = (one) => (one.axis === "right" ? "right" : "y");
    const from0 = (_, low, high) => [0, high > 0 ? high * 1.06 : 1];
    const upright = (side, scale) => ({
      ...axis,
      scale,
      side,
      size: (_, values) => 14 + 6.5 * Math.max(3, ...(values ?? []).map((value) => value.length)),
      grid: { show: side === 3, stroke: color("--border"), width: 1 },
      values: (_, splits) => splits.map(text),
    });
    const axes = [
      {
        ...axis,
        space: isSlanted ? 18 : 64,
        incrs: [1, 2, 3, 5, 7, 10, 14, 20, 30],
        grid: { show: false },
        rotate: isSlanted ? -40 : 0,
        size: isSlanted ? 84 : 28,
        values: (_, splits) => splits.map((at) => {
          const label = data.labels[at] ?? "";
          return isSlanted && label.length > 15 ? `${label.slice(0, 14)}…` : label;
        }),
      },
      upright(3, "y"),
    ];
    if (lines.some((one) => one.axis === "right")) axes.push(upright(1, "right"));
    drawn.get(figure)?.plot.destroy();
    const plot = new uPlot(
      {
        width: frame.clientWidth,
        height: HEIGHT + (isSlanted ? 48 : 0),
        padding: [8, axes.length > 2 ? 0 : 8, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { x: false, y: false, setScale: false } },
        scales: {
          x: { time: false, range: () => [-0.6, data.labels.length - 0.4] },
          y: { range: from0 },
          right: { range: from0 },
        },
        axes,
        series: [
          {},
          ...plotted.map(([one]) =>
            one.kind === "bar"
              ? {
                  scale: scaleOf(one),
                  fill: color(`--chart-${one.color}`),
                  width: 0,
                  paths: uPlot.paths.bars({ size: [0.74, 56] }),
                  points: { show: false },
                }
              : {
                  scale: scaleOf(one),
                  stroke: color(`--chart-${one.color}`),
                  width: 2,
                  dash: one.color === "0" ? [4, 4] : undefined,
                  points: { show: data.labels.length < 32 && one.color !== "0", size: 5, fill: color("--card") },
                },
          ),
        ],
        plugins: [tooltip(data, bars)],
      },
      [data.labels.map((_, at) => at), ...plotted.map(([, heights]) => heights)],
      frame,
    );
    frame.toggleAttribute("data-linked", data.links.some(Boolean));
    let observer = drawn.get(figure)?.observer;
    if (!observer) {
      observer = new ResizeObserver(() => {
        const known = drawn.get(figure);
        if (!figure.isConnected) {
          known?.plot.destroy();
          observer.disconnect();
          drawn.delete(figure);
        } else if (!known || known.plot.width !== frame.clientWidth) {
          draw(figure);
        }
      });
      observer.observe(frame);
    }
    drawn.set(figure, { plot, observer });
  };

  const drawAll = () => {
    for (const figure of drawn.keys()) {
      if (figure.isConnected) continue;
      drawn.get(figure).plot.destroy();
      drawn.get(figure).observer.disconnect();
      drawn.delete(figure);
    }
    for (const figure of document.querySelectorAll("figure[data-chart]")) draw(figure);
  };

  drawAll();
  document.addEventListener("htmx:after:swap", drawAll);
  new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["class"] });
})();
