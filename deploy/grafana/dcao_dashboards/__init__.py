"""The dashboards as code: `parts` makes what Grafana calls panels; each other module is one dashboard."""
