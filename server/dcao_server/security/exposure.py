"""Refuses to serve where strangers can reach the controller and nothing asks them who they are."""

from dcao_server.security.key_sources import KeyFile, KeySourceError
from dcao_server.settings import Settings, SettingsError


def check_exposure(settings: Settings) -> None:
    """Nothing, when the controller may start with these settings.

    Raises:
        SettingsError: another address than loopback is bound without API keys, or the key file cannot be read.
    """
    if not settings.keys_wanted:
        if settings.loopback:
            return
        raise SettingsError(
            f"expected API keys because {settings.host} can be reached from other machines, got none: whoever reaches "
            f"port {settings.port} could steer every run. Make one with\n"
            "    dcao-controller keys create --file api_keys.jsonl --project '*' --scope write\n"
            "and set DCAO_API_KEYS_FILE=api_keys.jsonl (or keep keys in Redis: `keys create --redis` and "
            "DCAO_API_KEYS_IN_REDIS=true), or bind 127.0.0.1"
        )
    if settings.api_keys_in_redis and settings.redis_url is None:
        raise SettingsError(
            "expected DCAO_REDIS_URL because DCAO_API_KEYS_IN_REDIS is set, got none; set or unset both"
        )
    if settings.api_keys_file is not None:
        try:
            KeyFile(settings.api_keys_file).load_now()
        except KeySourceError as error:
            raise SettingsError(str(error)) from error
