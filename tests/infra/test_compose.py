"""Laws of what infra/ declares. No Docker daemon is needed: what must hold is in the files."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_to_a_version(name):
    _, _, tag = SERVICES[name]["image"].rpartition(":")
    assert re.fullmatch(r"v?\d+(\.\d+)+", tag), SERVICES[name]["image"]


def test_our_own_image_has_the_version_of_the_project_and_is_built_from_a_file_that_exists():
    ours = [service for service in SERVICES.values() if service["image"].startswith(f"{PROJECT['name']}:")]
    assert {service["image"] for service in ours} == {f"{PROJECT['name']}:{PROJECT['version']}"}
    (build,) = [service["build"] for service in ours if "build" in service]
    assert (ROOT / "infra" / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_the_health_of_those_it_needs(name):
    for needed, wait in SERVICES[name].get("depends_on", {}).items():
        assert wait == {"condition": "service_healthy"}
        assert SERVICES[needed]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_to_this_machine_only(name):
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert SERVICES[name].get("network_mode") is None


@pytest.mark.parametrize("name", SERVICES)
def test_a_volume_is_declared_and_no_folder_of_the_host_is_mounted(name):
    for mount in SERVICES[name].get("volumes", []):
        assert mount.partition(":")[0] in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_written_down(name):
    text = yaml.safe_dump(SERVICES[name]).lower()
    assert not re.search(r"password|secret|token|access_key|credential", text)


def test_the_worker_finds_the_server_by_the_port_that_the_server_listens_on():
    command = SERVICES["server"]["entrypoint"]
    port = command[command.index("--port") + 1]
    assert SERVICES["worker"]["environment"]["PREFECT_API_URL"] == f"http://server:{port}/api"
    assert SERVICES["server"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"127.0.0.1:{port}/api/health" in SERVICES["server"]["healthcheck"]["test"][-1]


def test_a_lost_run_is_declared_so_after_three_heartbeats_missed():
    from prefect.events.schemas.automations import AutomationCore

    data = yaml.safe_load((ROOT / "infra" / "prefect" / "lost-runs.yaml").read_text())
    trigger = AutomationCore.model_validate(data).trigger
    settings = tomllib.loads((ROOT / "prefect.toml").read_text())
    assert trigger.within.total_seconds() == 3 * settings["flows"]["heartbeat_frequency"]
