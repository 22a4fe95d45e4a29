"""Puts the outer layers around an application: the envelope, the error handlers, the guard and the audit trail."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from dcao_server.asgi.envelope import Envelope
from dcao_server.asgi.lifecycle import Lifecycle
from dcao_server.asgi.problems import install_handlers
from dcao_server.ending import finish
from dcao_server.security.audit import AuditTrail
from dcao_server.security.audit_sinks import AuditFile, AuditInRedis
from dcao_server.security.exposure import check_exposure
from dcao_server.security.guard import Guard
from dcao_server.security.key_sources import KeyFile, KeysInRedis, KeySource
from dcao_server.security.keyring import Keyring
from dcao_server.security.own_redis import OwnRedis
from dcao_server.security.rate import RateLimit
from dcao_server.settings import Settings


def install(app: FastAPI, settings: Settings) -> Lifecycle:
    """Completes an application that has its routes, before it serves.

    Sets `app.state.lifecycle`, which `/readyz` and event streams read, and `app.state.guard`; wraps the application's
    lifespan.

    Raises:
        SettingsError: these settings must not serve; see `check_exposure`.
    """
    check_exposure(settings)
    lifecycle = Lifecycle()
    app.state.lifecycle = lifecycle
    app.router.redirect_slashes = False  # one spelling for each resource, and no undocumented redirects
    install_handlers(app)
    redis = OwnRedis(settings)
    trail = AuditTrail(
        AuditFile(settings.data) if settings.redis_url is None else AuditInRedis(redis, settings.audit_max)
    )
    guard = Guard(
        _keyring(settings, redis),
        RateLimit(settings.rate_limit, settings.rate_burst),
        trail,
        protect_metrics=settings.protect_metrics,
        metrics_port=settings.metrics_port,
    )
    app.state.guard = guard
    app.add_middleware(Envelope, settings=settings, guard=guard, lifecycle=lifecycle)
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[Any]:
        try:
            async with inner(application) as state, trail.running():
                yield state
        finally:
            await finish("close Redis of keys and audit", redis.close())

    app.router.lifespan_context = lifespan
    return lifecycle


def _keyring(settings: Settings, redis: OwnRedis) -> Keyring | None:
    sources: list[KeySource] = []
    if settings.api_keys_file is not None:
        sources.append(KeyFile(settings.api_keys_file))
    if settings.api_keys_in_redis:
        sources.append(KeysInRedis(redis))
    return Keyring(sources, settings.api_keys_refresh_seconds) if sources else None
