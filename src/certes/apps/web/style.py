"""How the page looks: the system's own fonts, few colours, nothing fetched from anywhere."""

from __future__ import annotations

from typing import Any, cast

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")

CSS = """
:root { --certes-muted: #52606d; }
.dark { --certes-muted: #a9b4c0; }
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
footer { display: none !important; }
.certes-head h1 { font-size: 1.55rem; font-weight: 650; margin: 0; letter-spacing: -0.01em; }
.certes-head p { margin: 0.15rem 0 0; color: var(--certes-muted); }
.certes-section h2 { font-size: 0.98rem; font-weight: 650; margin: 0.5rem 0 0; }
.certes-muted { color: var(--certes-muted); font-size: 0.84rem; margin: 0.35rem 0 0; }
.certes-figure { margin: 0; }
.certes-figure img { display: block; width: 100%; max-width: 420px; image-rendering: pixelated;
  border-radius: 4px; }
.certes-small .certes-figure img { max-width: 190px; }
.certes-figure figcaption { color: var(--certes-muted); font-size: 0.84rem;
  margin-top: 0.3rem; }
.certes-box { border: 1px solid var(--border-color-primary); border-left-width: 5px;
  border-radius: 4px; padding: 0.65rem 0.9rem; line-height: 1.45; }
.certes-box b { display: block; }
.certes-sure { border-left-color: #0072b2; }
.certes-unsure { border-left-color: #e69f00; }
.certes-error { border-left-color: #c0392b; }
.certes-track { height: 8px; border-radius: 4px; background: var(--border-color-primary);
  overflow: hidden; margin-top: 0.45rem; }
.certes-track div { height: 100%; background: #0072b2; }
.certes-bar { max-width: 640px; }
.certes-bar-colours { height: 14px; border-radius: 3px; }
.certes-bar-ticks { display: flex; justify-content: space-between; font-size: 0.8rem;
  font-variant-numeric: tabular-nums; }
.certes-map img { image-rendering: pixelated; cursor: crosshair; }
.certes-histogram { width: 100%; max-width: 420px; display: block; }
.certes-numbers, .certes-numbers tr { border: 0 !important; background: none !important; }
.certes-numbers { border-collapse: collapse; font-variant-numeric: tabular-nums;
  margin: 0.2rem 0 0.4rem; }
.certes-numbers td, .certes-numbers th { padding: 0.1rem 1.1rem 0.1rem 0; text-align: left;
  border: 0 !important; background: none !important; font-weight: 400; }
.certes-numbers th { color: var(--certes-muted); }
"""


def theme() -> Any:
    """A plain theme."""
    import gradio

    return (
        cast(Any, gradio)
        .themes.Base(
            primary_hue="blue",
            neutral_hue="slate",
            font=SANS,
            font_mono=MONO,
            text_size="md",
            radius_size="sm",
            spacing_size="md",
        )
        .set(
            button_primary_background_fill="#0072b2",
            button_primary_background_fill_hover="#005d92",
            button_primary_text_color="#ffffff",
            block_border_width="1px",
            block_shadow="none",
            block_info_text_color="#52606d",
        )
    )
