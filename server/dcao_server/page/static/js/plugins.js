// What the charts draw besides lines: bands, thresholds, attempts, the strip of regimes.

import { colour } from "./theme.js";

const REGIME_COLOURS = {
  calibrating: "sky",
  flat: "grey",
  stable: "green",
  edge: "orange",
  unstable: "vermillion",
  diverged: "ink",
  held: "purple",
  pending: "line-strong",
};

const clip = (u, draw) => {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(left, top, width, height);
  u.ctx.clip();
  draw(u.ctx, u.bbox);
  u.ctx.restore();
};

/** A dashed line at a value, with words where there is room. */
export function lineAt(value, words, name = "ink-3") {
  return {
    hooks: {
      draw: (u) =>
        clip(u, (ctx, box) => {
          const y = Math.round(u.valToPos(value, "y", true)) + 0.5;
          ctx.strokeStyle = colour(name);
          ctx.lineWidth = devicePixelRatio;
          ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
          ctx.beginPath();
          ctx.moveTo(box.left, y);
          ctx.lineTo(box.left + box.width, y);
          ctx.stroke();
          ctx.fillStyle = colour(name);
          ctx.font = `${11 * devicePixelRatio}px Inter, sans-serif`;
          ctx.textAlign = "left";
          ctx.textBaseline = "bottom";
          if (box.width < 420 * devicePixelRatio) return; // on a phone the legend and the gauge say it
          ctx.fillText(words, box.left + 6 * devicePixelRatio, y - 2 * devicePixelRatio);
        }),
    },
  };
}

/** A horizontal band from one value to another, and a dashed line with words at a value inside it. */
export function edgeBand(from, to, line) {
  return {
    hooks: {
      ...lineAt(line, "edge of stability", "vermillion").hooks,
      drawClear: (u) =>
        clip(u, (ctx, box) => {
          const y = (value) => u.valToPos(value, "y", true);
          ctx.fillStyle = colour("beyond");
          ctx.fillRect(box.left, box.top, box.width, Math.max(0, y(to) - box.top));
          ctx.fillStyle = colour("band");
          ctx.fillRect(box.left, y(to), box.width, y(from) - y(to));
        }),
    },
  };
}

/** Shades everything above a series: where the sharpness would be beyond the edge. */
export function beyondSeries(index) {
  return {
    hooks: {
      drawClear: (u) =>
        clip(u, (ctx, box) => {
          const [steps, limits] = [u.data[0], u.data[index]];
          ctx.fillStyle = colour("beyond");
          let limit = null; // held over decisions without a spectrum
          for (let i = 0; i < steps.length; i += 1) {
            limit = limits[i] ?? limit;
            if (limit === null) continue;
            const x0 = u.valToPos(steps[i], "x", true);
            const x1 = u.valToPos(steps[Math.min(i + 1, steps.length - 1)], "x", true);
            const y = u.valToPos(limit, "y", true);
            if (x1 >= box.left && x0 <= box.left + box.width) ctx.fillRect(x0, box.top, x1 - x0, y - box.top);
          }
        }),
    },
  };
}

/** A thin line where each attempt but the first began. */
export function attemptMarks(series) {
  return {
    hooks: {
      draw: (u) =>
        clip(u, (ctx, box) => {
          ctx.strokeStyle = colour("purple");
          ctx.fillStyle = colour("purple");
          ctx.lineWidth = devicePixelRatio;
          ctx.font = `${11 * devicePixelRatio}px Inter, sans-serif`;
          for (const [attempt, step] of series.attempts) {
            if (attempt <= 1) continue;
            const x = Math.round(u.valToPos(step, "x", true)) + 0.5;
            ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
            ctx.beginPath();
            ctx.moveTo(x, box.top);
            ctx.lineTo(x, box.top + box.height);
            ctx.stroke();
            ctx.textAlign = "left";
            ctx.textBaseline = "alphabetic";
            ctx.fillText(`attempt ${attempt}`, x + 5 * devicePixelRatio, box.top + 12 * devicePixelRatio);
          }
        }),
    },
  };
}

/** A strip along the bottom that tells each decision's regime. */
export function regimeStrip(series, height = 7) {
  return {
    hooks: {
      draw: (u) =>
        clip(u, (ctx, box) => {
          const tall = height * devicePixelRatio;
          const top = box.top + box.height - tall;
          const { entries } = series;
          for (let i = 0; i < entries.length; i += 1) {
            const x0 = u.valToPos(entries[i].step, "x", true);
            const x1 = i + 1 < entries.length ? u.valToPos(entries[i + 1].step, "x", true) : box.left + box.width;
            if (x1 < box.left || x0 > box.left + box.width) continue;
            ctx.fillStyle = colour(REGIME_COLOURS[entries[i].regime] ?? "grey");
            ctx.fillRect(Math.floor(x0), top, Math.ceil(x1 - x0) + 1, tall);
          }
        }),
    },
  };
}
