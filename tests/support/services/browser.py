"""A real browser for pages that people look at: Chromium without a window, with a profile of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.environment.waiting import wait_for

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = (1280, 900), (380, 780)


@contextmanager
def browser() -> Iterator[Page]:
    """A browser; it ends with the block, and its profile with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield Page(driver)
        finally:
            driver.quit()


class Page:
    """What a person does with the page that is open."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str, size: tuple[int, int] = DESKTOP) -> None:
        """Open an address in a window of this size, as somebody who was never here."""
        width, height = size
        # A window cannot be made as narrow as a phone: the browser pretends to be one.
        given = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", given)
        self.driver.get(url)
        self.run("sessionStorage.clear()")
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        """The first such element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Every such element."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """All text of an element; of one that is not there, none."""
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def wait_text(self, selector: str, words: str, timeout_s: float = 60) -> None:
        """Wait until an element holds these words."""
        wait_for(lambda: words in self.text(selector), f"'{words}' in {selector}", timeout_s)

    def press(self, selector: str) -> None:
        """Click an element where a person would see it; again when the page replaces it at that moment."""

        def pressed() -> bool:
            element = next(iter(self.all(selector)), None)
            try:
                if element is None or not element.is_enabled():
                    return False
                self.run("arguments[0].scrollIntoView({block: 'center'})", element)
                element.click()
            except StaleElementReferenceException:
                return False
            return True

        wait_for(pressed, f"{selector} to be pressed", 60)

    def type(self, selector: str, text: str) -> None:
        """Write into a field in place of what it holds."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def messages(self) -> list[str]:
        """What the browser's console said since it was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser")]
