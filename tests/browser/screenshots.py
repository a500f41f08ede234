"""The pictures of the dashboard in docs/images, taken of a real cluster: `python -m tests.browser.screenshots`."""

from __future__ import annotations

import http.client
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote

from tests.browser.browser import Page, browser
from tests.conftest import free_base_port, run_cli
from tests.integration.test_up import Up

IMAGES = Path(__file__).parents[2] / "docs" / "images"
NODES = 5


class Load:
    """Reads and writes until it is ended, so that there is something to see."""

    def __init__(self, addresses: list[str]) -> None:
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(address,)) for address in addresses]
        for thread in self._threads:
            thread.start()

    def _work(self, address: str) -> None:
        connection = http.client.HTTPConnection(address, timeout=5)
        number = 0
        while not self._ended.is_set():
            number += 1
            path = f"/v1/buckets/sessions/keys/user{number % 500}"
            try:
                for method in ("PUT", "GET", "GET", "GET"):
                    connection.request(method, path, b"x" * 200 if method == "PUT" else None)
                    connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
            self._ended.wait(0.01)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def take(page: Page, name: str, height: int) -> None:
    """Save what the page shows, to this height."""
    size = {"width": 1180, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.driver.execute_script("scrollTo(0, 0)")
    page.driver.save_screenshot(str(IMAGES / f"{name}.png"))


def scheme(page: Page, name: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": name}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as driver:
        up = Up(Path(folder) / "data", free_base_port(), "--nodes", str(NODES), "--partitions", "256")
        load = None
        try:
            addresses = up.wait_for("ready")["nodes"]
            web = [f"127.0.0.1:{int(address.rpartition(':')[2]) + 100}" for address in addresses.values()]
            run_cli("bucket", "set", "sessions", "conflicts=lww", "--node", addresses["n1"])
            page = Page(driver, f"http://{web[0]}")
            scheme(page, "light")
            load = Load(web[:3])
            page.open()
            page.until(lambda: page.text("p999-put").endswith(" ms"), "there are latencies")
            page.click("local-n4-kill")
            page.until(lambda: page.attribute("node-n4", "data-state") == "unreachable", "n4 is down")
            points = "return document.querySelector('#figures polyline')?.getAttribute('points').split(' ').length ?? 0"
            page.until(lambda: page.driver.execute_script(points) >= 30, "there is something to see")
            take(page, "dashboard-overview", 1480)
            for value in (b'{"milk": 1}', b'{"eggs": 6}'):
                connection = http.client.HTTPConnection(web[1], timeout=5)
                headers = {"Content-Type": "application/json"}
                connection.request("PUT", f"/v1/buckets/carts/keys/{quote('alice')}", value, headers)
                connection.getresponse().read()
                connection.close()
            scheme(page, "dark")
            page.open("inspect")
            page.inspect("carts", "alice")
            take(page, "dashboard-inspect", 1240)
        finally:
            if load is not None:
                load.end()
            up.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
