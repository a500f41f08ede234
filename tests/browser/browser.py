"""Headless Chromium on the dashboard of a node, and what must hold after everything it did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.conftest import EVENT_TIMEOUT_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER),
    reason="Chromium is not installed (on Debian: apt install chromium chromium-driver)",
)
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"),
    *("--no-default-browser-check", "--no-proxy-server", "--window-size=1280,1000", "--lang=en"),
)


class Page:
    """The dashboard of one node."""

    def __init__(self, driver: webdriver.Chrome, origin: str) -> None:
        self.driver = driver
        self.origin = origin

    def open(self, view: str = "overview") -> None:
        """Open it anew, with nothing left of what was before."""
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(f"{self.origin}/ui/#{view}")
        self.until(lambda: self["connection"].get_attribute("data-state") == "live", "the page is live")

    def show(self, view: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, f'nav a[href="#{view}"]').click()
        self.until(self[f"view-{view}"].is_displayed, f"{view} is shown")

    def __getitem__(self, element_id: str) -> WebElement:
        return self.driver.find_element(By.ID, element_id)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, element_id: str) -> str:
        """Its text, also while the page replaces it."""
        return str(
            self.driver.execute_script("return document.getElementById(arguments[0])?.textContent ?? ''", element_id)
        )

    def texts(self, selector: str) -> list[str]:
        """Those of all elements that are there at one moment: asked one by one, they could be replaced meanwhile."""
        script = "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent)"
        return [str(text) for text in self.driver.execute_script(script, selector)]

    def click(self, element_id: str) -> None:
        """Click it; found and replaced before the click, it is looked up again."""

        def clicked() -> bool:
            try:
                self[element_id].click()
            except StaleElementReferenceException:
                return False
            return True

        self.until(clicked, f"{element_id} could be clicked")

    def attribute(self, element_id: str, name: str) -> str:
        script = "return document.getElementById(arguments[0])?.getAttribute(arguments[1]) ?? ''"
        return str(self.driver.execute_script(script, element_id, name))

    def until(self, holds: Callable[[], Any], what: str) -> None:
        WebDriverWait(self.driver, EVENT_TIMEOUT_S, 0.05).until(lambda _: holds(), what)

    def fill(self, element_id: str, text: str) -> None:
        self[element_id].clear()
        self[element_id].send_keys(text)

    def inspect(self, bucket: str, key: str) -> None:
        self.fill("inspect-bucket", bucket)
        self.fill("inspect-key", key)
        self.click("inspect-go")
        self.until(lambda: self["inspect-found"].is_displayed() and not self.text("inspect-result"), "it was found")

    def check_conduct(self, errors_of: tuple[str, ...] = ()) -> None:
        """No error on the console but those whose text has one of `errors_of`, and no request to anybody else."""
        complaints = [
            line["message"] for line in self.driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")
        ]
        assert [text for text in complaints if not any(expected in text for expected in errors_of)] == []
        for entry in self.driver.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                if event["params"].get("documentURL", "").startswith("chrome:"):
                    continue  # The browser's own page, before ours.
                url = event["params"]["request"]["url"]
                assert url.startswith((self.origin + "/", "data:")), url


@contextmanager
def browser(profile: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    driver.set_page_load_timeout(EVENT_TIMEOUT_S)
    try:
        yield driver
    finally:
        driver.quit()
