"""What the cameras see becomes labelled, reviewed, versioned data."""
