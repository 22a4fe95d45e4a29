"""The run page at `/`: what the controller shows a person with a browser where no Grafana runs.

Plain ES modules and one vendored plotting library (uPlot: 50 kB, no dependencies, draws 100,000 points in
milliseconds); nothing is built and nothing is fetched from elsewhere.
"""

from dcao_server.page.routes import page_router

__all__ = ["page_router"]
