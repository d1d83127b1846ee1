// Shows how far the job has come. A token, if one is needed, is the page's own parameter.
const token = new URLSearchParams(location.search).get("token");
const query = token ? "?token=" + encodeURIComponent(token) : "";
new EventSource("progress/changes" + query).addEventListener("progress", (event) => {
  document.getElementById("progress").textContent = JSON.stringify(JSON.parse(event.data), null, 2);
});
