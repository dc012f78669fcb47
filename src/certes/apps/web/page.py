"""The page: its fields, and which handler each click goes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import gradio

from certes.apps.options import DEFAULT_NOISE, TaskName
from certes.apps.web import drawing, words
from certes.apps.web.forms import AUTO, TAKES, Form
from certes.apps.web.guard import owner_of
from certes.apps.web.handlers import Complaint, Handlers, Marked, Shown
from certes.apps.web.limits import MOST_SAMPLES, MOST_STEPS, Limits
from certes.apps.web.runs import Step
from certes.data.bundled import bundled_pictures

gr = cast(Any, gradio)  # its types are full of unknowns

ONE_PIXEL, A_REGION = "one pixel", "a region: two clicks"
_HEAD = (
    '<div class="certes-head"><h1>certes</h1><p>Restore a picture, with an interval for every '
    "pixel.</p></div>"
)
_FORM = ("task", "factor", "kernel", "quality", "noise", "model", "samples", "steps", "alpha",
         "seed", "degrade")  # fmt: skip

Updates = dict[Any, Any]


def build_page(handlers: Handlers, limits: Limits, models: tuple[str, ...]) -> Any:
    """The page (a ``gradio.Blocks``), ready to be launched."""
    page = gr.Blocks(title="certes", analytics_enabled=False)
    parts: dict[str, Any] = {}
    with page:
        gr.HTML(_HEAD)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                _picture(parts, limits)
                _degradation(parts)
                _sampling(parts, models)
            with gr.Column(scale=3, min_width=300):
                _outcome(parts)
        _Wiring(parts, handlers).connect(page)
    return page


def _section(title: str) -> None:
    gr.HTML(f"<h2>{title}</h2>", elem_classes="certes-section", padding=False)


def _picture(parts: dict[str, Any], limits: Limits) -> None:
    _section("1. A picture")
    parts["file"] = gr.File(
        label=f"Drop a PNG, JPEG or TIFF here, or click (at most {limits.upload // 2**20} MB, "
        f"{limits.pixels / 1e6:.3g} million pixels)",
        height=120,
        elem_id="upload",
    )
    parts["bundled"] = gr.Dropdown(
        [("", ""), *((f"nuclei {i + 1}", p.name) for i, p in enumerate(bundled_pictures()))],
        value="",
        label="Or one that comes with certes (clean pictures of cell nuclei)",
        elem_id="bundled",
    )
    parts["thumbnail"] = gr.HTML("", elem_classes="certes-small", elem_id="thumbnail")
    parts["degrade"] = gr.Checkbox(
        value=False,
        label="It is clean: degrade it first, and compare the restoration with it",
        elem_id="degrade",
    )


def _degradation(parts: dict[str, Any]) -> None:
    _section("2. What happened to it")
    parts["task"] = gr.Dropdown(
        [task.value for task in TaskName],
        value=TaskName.DENOISE.value,
        label="Task (conditional models know their own)",
        elem_id="task",
    )
    with gr.Column(visible=False) as parts["details"]:
        with gr.Row():
            parts["factor"] = gr.Number(
                4, label="Factor", info="How many times finer", visible=False, elem_id="factor"
            )
            parts["kernel"] = gr.Textbox(
                "",
                label="Kernel",
                visible=False,
                elem_id="kernel",
                placeholder="the task's own",
                info="gaussian:SIGMA, uniform:WIDTH, disk:RADIUS, motion:LENGTH,ANGLE, box, "
                "bicubic, auto",
            )
            parts["quality"] = gr.Number(
                None,
                label="Quality",
                visible=False,
                elem_id="quality",
                info="1 to 100; empty: what the file itself says, or 10 of what is degraded here",
            )
        parts["mask"] = gr.File(
            label="Mask: white where pixels are known, black elsewhere (of what is degraded here: "
            "a fifth of all pixels at random, unless you give one)",
            visible=False,
            height=130,
            elem_id="mask",
        )
    parts["noise"] = gr.Textbox(
        AUTO, label="Noise", elem_id="noise",
        info="Standard deviation, the full range of the file being 1 (10 grey levels of 255 are "
        "0.04), or auto: estimated from the picture. A guarantee needs a number.",
    )  # fmt: skip


def _sampling(parts: dict[str, Any], models: tuple[str, ...]) -> None:
    _section("3. What restores it")
    parts["model"] = gr.Dropdown(list(models), value=models[0], label="Model", elem_id="model")
    with gr.Row():
        parts["samples"] = gr.Slider(
            1, MOST_SAMPLES, 16, step=1, label="Samples", elem_id="samples", min_width=140
        )
        parts["steps"] = gr.Slider(
            1, MOST_STEPS, 20, step=1, label="Steps", elem_id="steps", min_width=140
        )
    with gr.Row():
        parts["alpha"] = gr.Number(
            0.1, label="Alpha: share of pixels that may be missed", elem_id="alpha", min_width=140
        )
        parts["seed"] = gr.Number(0, label="Seed", precision=0, elem_id="seed", min_width=140)
    gr.HTML(
        '<p class="certes-muted">The cards that come with the models hold for 16 samples, 20 steps '
        "and alpha 0.1.</p>",
        padding=False,
    )
    with gr.Row():
        parts["restore"] = gr.Button("Restore", variant="primary", elem_id="restore")
        parts["stop"] = gr.Button("Stop", elem_id="stop", min_width=80, scale=0)


def _outcome(parts: dict[str, Any]) -> None:
    parts["message"] = gr.HTML("", elem_id="message", padding=False)
    parts["hint"] = gr.HTML(words.WELCOME, padding=False)
    parts["preview"] = gr.HTML("", elem_id="preview", padding=False)
    with gr.Column(visible=False, elem_id="results") as parts["results"]:
        parts["guarantee"] = gr.HTML("", elem_id="guarantee", padding=False)
        parts["slider"] = gr.ImageSlider(
            label="Before and after", type="filepath", interactive=False, buttons=["fullscreen"],
            elem_id="slider", max_height=640,
        )  # fmt: skip
        parts["summary"] = gr.HTML("", elem_id="summary")
        with gr.Row():
            for name, label in (
                ("intervals", "Intervals (TIFF)"),
                ("panel", "Panel (PNG)"),
                ("report", "Report (JSON)"),
            ):
                parts[name] = gr.DownloadButton(label, size="sm", elem_id=f"get-{name}")
        _section("How sure it is")
        parts["map"] = gr.Image(
            label="Interval width: click on a pixel", type="filepath", interactive=False,
            buttons=[], elem_id="map", elem_classes="certes-map",
        )  # fmt: skip
        parts["bar"] = gr.HTML("", elem_id="bar")
        parts["clicks"] = gr.Radio(
            [ONE_PIXEL, A_REGION], value=ONE_PIXEL, label="A click asks for", elem_id="clicks"
        )
        with gr.Row():
            for name in ("x0", "y0", "x1", "y1"):
                parts[name] = gr.Number(
                    0, label=name, precision=0, min_width=110, elem_id=name, minimum=0
                )
            parts["ask"] = gr.Button("Mean of this region", elem_id="ask", min_width=150)
        with gr.Row():
            for name in ("pixel", "region"):
                with gr.Column(min_width=280):
                    parts[name] = gr.HTML("", elem_id=name)


@dataclass(frozen=True)
class _Wiring:
    """Which handler each click goes to."""

    parts: dict[str, Any]
    handlers: Handlers

    def connect(self, page: Any) -> None:
        """Wire everything; to be called inside the page."""
        p = self.parts
        self._on(p["file"].upload, self.upload, [p["file"]])
        self._on(p["bundled"].input, self.pick, [p["bundled"], p["task"]])
        self._on(p["mask"].upload, self.mask, [p["mask"]])
        self._on(p["mask"].clear, self.no_mask, [])
        self._on(p["task"].change, self.task, [p["task"], p["degrade"]])
        self._on(p["degrade"].input, self.degrade, [p["task"], p["degrade"]])
        fields = [p[name] for name in _FORM]
        self._on(p["restore"].click, self.restore, fields, show_progress_on=[p["message"]])
        self._on(p["stop"].click, self.stop, [])
        self._on(p["map"].select, self.click, [p["clicks"]])
        corners = [p[name] for name in ("x0", "y0", "x1", "y1")]
        self._on(p["ask"].click, self.region, corners)
        page.unload(self.leave)

    def _on(self, event: Any, function: Callable[..., Any], inputs: list[Any], **more: Any) -> None:
        shown = {"show_progress": "minimal"} if more else {"show_progress": "hidden"}
        outputs = list(self.parts.values())
        event(function, inputs, outputs, api_visibility="private", **shown, **more)

    def upload(self, file: str, request: gradio.Request) -> Updates:
        """A picture was dropped."""
        return self._picked(
            self.handlers.upload, file, request, bundled="", degrade=False, noise=AUTO
        )

    def pick(self, name: str, task: str, request: gradio.Request) -> Updates:
        """A picture that comes with certes was picked; it is clean."""
        if not name:
            return {}
        noise = _noise(task, degrade=True)
        return self._picked(self.handlers.pick, name, request, degrade=True, noise=noise)

    def mask(self, file: str, request: gradio.Request) -> Updates:
        """A mask was dropped."""
        try:
            kept = self.handlers.upload_mask(*_who(request), file)
        except Complaint as complaint:
            return self._said(complaint) | {self.parts["mask"]: None}
        return self._message("") | {self.parts["mask"]: str(kept)}

    def no_mask(self, request: gradio.Request) -> Updates:
        """The mask was taken away."""
        self.handlers.upload_mask(*_who(request), None)
        return {}

    def task(self, task: str, degrade: bool) -> Updates:
        """Another task shows other fields."""
        p, takes = self.parts, TAKES[TaskName(task)]
        visible = {
            p[name]: gr.update(visible=name in takes)
            for name in ("factor", "kernel", "quality", "mask")
        } | {p["details"]: gr.update(visible=bool(takes))}
        return (
            visible
            | {p["kernel"]: gr.update(visible="kernel" in takes, value="")}
            | (self.degrade(task, degrade) if degrade else {})
        )

    def degrade(self, task: str, degrade: bool) -> Updates:
        """A picture that is degraded here, or is no more."""
        return {self.parts["noise"]: _noise(task, degrade)}

    def restore(self, request: gradio.Request, *fields: Any) -> Iterator[Updates]:
        """Progress and previews, then the results."""
        p = self.parts
        yield self._cleared() | self._message(words.remark("Waiting ...")) | {p["hint"]: ""}
        try:
            form = Form(**dict(zip(_FORM, fields, strict=True)))
            for news in self.handlers.restore(*_who(request), form):
                yield self._step(news) if isinstance(news, Step) else self._shown(news)
        except Complaint as complaint:
            yield self._said(complaint) | {p["preview"]: ""}

    def stop(self, request: gradio.Request) -> Updates:
        """Whatever runs is to end."""
        self.handlers.stop(*_who(request))
        return {}

    def click(self, clicks: str, event: gradio.SelectData, request: gradio.Request) -> Updates:
        """A click on the map."""
        who = _who(request)
        try:
            x, y = event.index
            at = self.handlers.at(*who, (x, y))
            if clicks == ONE_PIXEL:
                return self._marked("pixel", self.handlers.pixel(*who, at))
            return self._marked("region", self.handlers.corner(*who, at))
        except Complaint as complaint:
            return self._said(complaint)

    def region(
        self, x0: float | None, y0: float | None, x1: float | None, y1: float | None,
        request: gradio.Request,
    ) -> Updates:  # fmt: skip
        """Numbers for a region."""
        first, second = (int(x0 or 0), int(y0 or 0)), (int(x1 or 0), int(y1 or 0))
        try:
            return self._marked("region", self.handlers.region(*_who(request), first, second))
        except Complaint as complaint:
            return self._said(complaint)

    def leave(self, request: gradio.Request) -> None:
        """The tab was closed."""
        self.handlers.leave(*_who(request))

    def _picked(
        self, take: Callable[[str, str, str], str], what: str, request: gradio.Request, **more: Any
    ) -> Updates:
        p = self.parts
        fields = {p[name]: value for name, value in more.items()}
        try:
            shown = take(*_who(request), what)
        except Complaint as complaint:
            return self._said(complaint) | {p["file"]: None, p["thumbnail"]: "", p["bundled"]: ""}
        return (
            self._cleared() | self._message("") | {p["thumbnail"]: shown, p["file"]: None} | fields
        )

    def _step(self, step: Step) -> Updates:
        white = drawing.display_white(step.estimate)
        preview = drawing.picture_html(
            drawing.as_pixels(step.estimate, white), "What one of the answers looks like by now"
        )
        return self._message(words.progress_bar(step.share)) | {self.parts["preview"]: preview}

    def _shown(self, shown: Shown) -> Updates:
        p = self.parts
        files = {
            p["slider"]: (str(shown.before), str(shown.after)),
            p["map"]: str(shown.width_map),
            p["intervals"]: str(shown.result.intervals),
            p["panel"]: str(shown.result.panel),
            p["report"]: str(shown.result.summary),
        }
        said = {
            p["bar"]: shown.bar,
            p["guarantee"]: shown.guarantee,
            p["summary"]: shown.summary,
            p["results"]: gr.update(visible=True),
            p["preview"]: "",
            p["hint"]: "",
        }
        return self._message("") | files | said

    def _marked(self, where: str, marked: Marked) -> Updates:
        p, region = self.parts, marked.region
        corners = {"x0": region.left, "y0": region.top, "x1": region.right, "y1": region.bottom}
        fields = {p[name]: value for name, value in corners.items()} if where == "region" else {}
        return (
            self._message("") | {p[where]: marked.answer, p["map"]: str(marked.width_map)} | fields
        )

    def _cleared(self) -> Updates:
        p = self.parts
        return {
            p["results"]: gr.update(visible=False),
            p["pixel"]: "",
            p["region"]: "",
            p["preview"]: "",
            p["hint"]: words.WELCOME,
        }

    def _message(self, html: str) -> Updates:
        return {self.parts["message"]: html}

    def _said(self, complaint: Complaint) -> Updates:
        return self._message(words.complaint(str(complaint)))


def _noise(task: str, degrade: bool) -> str:
    """Of what is degraded here the noise is known."""
    return f"{DEFAULT_NOISE[TaskName(task)]:g}" if degrade else AUTO


def _who(request: gradio.Request) -> tuple[str, str]:
    """The browser and the tab that ask.

    Raises: Complaint for a browser that takes no cookie, which could not be told from another.
    """
    asked = cast(Any, request)
    owner = owner_of(asked.headers.get("cookie"))
    if owner is None:
        raise Complaint("cookies: this page needs one, to keep your pictures yours; allow it")
    return owner, str(asked.session_hash)
