"""`make tracking-up`: an MLflow server on PostgreSQL, watched over until Ctrl-C."""

from __future__ import annotations

import time

from ray_app.commands.console import console
from ray_app.config import AppConfig
from tracking.errors import StoreError
from tracking.server import TrackingService
from tracking.store import exclusive_writer

_LOOK_S = 1.0


def run(config: AppConfig) -> int:
    """Bring the server up, start again whatever dies, shut everything down on Ctrl-C or SIGTERM.

    Raises:
        StoreError: PostgreSQL or the server cannot be started.
    """
    folder = config.out / "tracking"
    settings = config.tracking.server
    kept = f"{settings.database or f'PostgreSQL in {folder}/postgres'}, artifacts in {settings.artifacts or f'{folder}/artifacts'}"
    if config.dry:
        console.print(f"would serve MLflow on {settings.host}:{settings.port}; {kept}")
        return 0
    with exclusive_writer(folder):
        service = TrackingService(settings, folder)
        try:
            service.start()
            console.print(f"MLflow on {service.address} (Ctrl-C ends it); {kept}")
            console.print(f'use it: MLFLOW_TRACKING_URI={service.address} make sweep ARGS="tracking=server"')
            _watch(service)
        except KeyboardInterrupt:
            console.print("shutting down")
        finally:
            service.stop()
    return 0


def _watch(service: TrackingService) -> None:
    while True:
        time.sleep(_LOOK_S)
        try:
            for name in service.watch():
                console.print(f"{name} had died and was started again")
        except StoreError as error:
            console.print(f"trying again: {error.message}")
