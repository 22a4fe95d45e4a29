"""What must be true before a controller starts and a single setting cannot tell: files and folders that it names."""

import os
import ssl

from dcao_server.settings import Settings, SettingsError


def check_start(settings: Settings) -> None:
    """Nothing, when everything that the settings name is there.

    Raises:
        SettingsError: it is not; the text says which and what to do.
    """
    if settings.redis_url is None:
        _check_data(settings)
    else:
        _check_certificates(settings, settings.redis_url.get_secret_value().startswith("rediss"))
    if settings.metrics_port is not None and settings.metrics_port == settings.port != 0:
        raise SettingsError(
            f"expected DCAO_METRICS_PORT to be another port than DCAO_PORT, got {settings.port} twice; change one"
        )


def _check_data(settings: Settings) -> None:
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        if os.access(settings.data, os.W_OK | os.X_OK):
            return
        reason = "it may not be written to"
    raise SettingsError(
        f"expected a folder in DCAO_DATA that can be written to, got {str(settings.data)!r} ({reason}); correct it, or "
        "set DCAO_REDIS_URL to keep the history in Redis"
    )


def _check_certificates(settings: Settings, tls: bool) -> None:
    named = {
        "DCAO_REDIS_CA_FILE": settings.redis_ca_file,
        "DCAO_REDIS_CERT_FILE": settings.redis_cert_file,
        "DCAO_REDIS_KEY_FILE": settings.redis_key_file,
    }
    given = {name: path for name, path in named.items() if path is not None}
    if given and not tls:
        raise SettingsError(
            f"expected DCAO_REDIS_URL to start with rediss because {next(iter(given))} is set, got a URL without TLS; "
            "correct one of them"
        )
    for name, path in given.items():
        if not (path.is_file() and os.access(path, os.R_OK)):
            raise SettingsError(f"expected a readable file in {name}, got {str(path)!r}; correct or unset it")
    if settings.redis_key_file is not None and settings.redis_cert_file is None:
        raise SettingsError("expected DCAO_REDIS_CERT_FILE because DCAO_REDIS_KEY_FILE is set, got none; set it")
    if not tls:
        return
    try:
        context = ssl.create_default_context(cafile=settings.redis_ca_file)
    except (ssl.SSLError, ValueError):
        raise SettingsError(
            f"expected certificates (PEM) in DCAO_REDIS_CA_FILE, got something else in {str(settings.redis_ca_file)!r}"
        ) from None
    if settings.redis_cert_file is not None:
        try:
            # Without this a key with a passphrase would wait for somebody to type it.
            context.load_cert_chain(settings.redis_cert_file, settings.redis_key_file, password="")
        except (ssl.SSLError, ValueError):
            raise SettingsError(
                "expected a certificate in DCAO_REDIS_CERT_FILE and its key, without a passphrase, in "
                "DCAO_REDIS_KEY_FILE (PEM both), got others; correct them"
            ) from None
