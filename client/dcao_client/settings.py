"""Where the controller is and how the client behaves, from the environment (`DCAO_…`) or as arguments."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClientSettings(BaseSettings):
    """Settings of a session. Every field is also an environment variable: `DCAO_URL`, `DCAO_DEADLINE`, …"""

    model_config = SettingsConfigDict(env_prefix="DCAO_", extra="ignore", frozen=True)

    url: str | None = Field(default=None, description="Controller, as http(s)://host:port; none: decide in-process.")
    api_key: SecretStr | None = Field(default=None, description="API key, dcao_<id>_<secret>.")
    api_key_file: Path | None = Field(default=None, description="File that holds the key; read again on a refusal.")
    project: str = Field(default="default", description="Project the run belongs to.")
    run: str | None = Field(default=None, description="Name of the run.")
    deadline: float = Field(default=0.25, gt=0, le=60, description="Seconds a decision may keep training waiting.")
    journal_dir: Path = Field(default=Path(".dcao/journal"), description="Where decisions wait for the controller.")

    def read_api_key(self) -> str | None:
        """The key as it is now; a file may have been replaced since the last time."""
        if self.api_key_file is not None:
            try:
                return self.api_key_file.read_text().strip() or None
            except OSError:
                return None
        return self.api_key.get_secret_value() if self.api_key else None
